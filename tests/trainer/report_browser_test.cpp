// SPDX-License-Identifier: Apache-2.0
// The page in a browser: wide and narrow, light and dark.  Skips, visibly, where there is no Chromium.
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "tests/trainer/report_of_this_version.hpp"

namespace triphase::test {
namespace {

bool has_chromium() { return run_command("command -v chromium").exit_code == 0; }

#define NEEDS_CHROMIUM() \
  if (!has_chromium()) GTEST_SKIP() << "there is no chromium here: the page was NOT opened"

std::string chromium(const fs::path& folder, const std::string& more) {
  return "chromium --headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
         "--no-first-run --allow-file-access-from-files --user-data-dir=" +
         (folder / "profile").string() + " " + more;
}

/// What a frame of `width` pixels around the page says of it: {scroll, inner, dark, fetched, background}.
Json look(const fs::path& folder, int width, bool is_dark) {
  write_text(folder / "frame.html",
             str("<!DOCTYPE html><html><body style='margin:0'><iframe id='f' src='report.html' style='width:", width,
                 "px;height:900px;border:0'></iframe><script>onload = () => {"
                 "const w = document.getElementById('f').contentWindow, d = w.document;"
                 "document.body.innerHTML = 'BEGIN' + JSON.stringify({scroll: d.documentElement.scrollWidth, inner: w.innerWidth,"
                 "dark: w.matchMedia('(prefers-color-scheme: dark)').matches,"
                 "fetched: w.performance.getEntriesByType('resource').length,"
                 "background: w.getComputedStyle(d.body).backgroundColor}) + 'END'}</script></body></html>"));
  const CommandResult result = run_command(
      chromium(folder, str(is_dark ? "--force-dark-mode " : "", "--dump-dom file://", (folder / "frame.html").string(), " 2>/dev/null")));
  const std::size_t begin = result.output.find("BEGIN{");
  if (begin == std::string::npos) throw std::runtime_error("chromium did not show the page: " + result.output);
  return Json::parse(result.output.substr(begin + 5, result.output.find("}END") - begin - 4));
}

fs::path new_page(const TemporaryFolder& folder) {
  static_cast<void>(report({write_new_run(folder.path(), {.name = "full"}, 0.07, 1),
                            write_new_run(folder.path(), {.name = "peft", .method = "peft", .auc = 0.933}, 0.5, 2),
                            write_run(folder.path(), "an_older_run_with_a_rather_long_name",
                                      {.name = "an_older_run_with_a_rather_long_name"})},
                           folder / "report.html"));
  return folder / "report.html";
}

TEST(ReportInABrowser, FitsWideAndNarrowScreensLightAndDarkAndFetchesNothing) {
  NEEDS_CHROMIUM();
  const TemporaryFolder folder;
  new_page(folder);
  std::string backgrounds[2];
  for (const bool is_dark : {false, true})
    for (const int width : {1280, 400}) {
      const Json seen = look(folder.path(), width, is_dark);
      EXPECT_EQ(seen.at("inner"), width);
      EXPECT_LE(seen.at("scroll").get<int>(), width) << "overflows at " << width;
      EXPECT_EQ(seen.at("dark"), is_dark);
      EXPECT_EQ(seen.at("fetched"), 0);
      backgrounds[is_dark ? 1 : 0] = seen.at("background").get<std::string>();
    }
  EXPECT_NE(backgrounds[0], backgrounds[1]);
}

TEST(ReportInABrowser, LeavesTheConsoleEmpty) {
  NEEDS_CHROMIUM();
  const TemporaryFolder folder;
  const fs::path page = new_page(folder);
  const auto console_of = [&](const fs::path& shown) {
    return run_command(chromium(folder.path(), "--enable-logging=stderr --log-level=0 --dump-dom file://" + shown.string()))
        .output;
  };
  EXPECT_EQ(console_of(page).find(":CONSOLE"), std::string::npos) << console_of(page);
  // The test would see one.
  std::string broken = read_text(page);
  broken.insert(broken.find("</body>"), "<script>console.error('broken')</script>");
  write_text(folder / "broken.html", broken);
  EXPECT_NE(console_of(folder / "broken.html").find(":CONSOLE"), std::string::npos);
}

}  // namespace
}  // namespace triphase::test
