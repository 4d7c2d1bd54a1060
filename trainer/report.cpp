// SPDX-License-Identifier: Apache-2.0
#include "trainer/report.hpp"

#include "base/file.hpp"
#include "trainer/report/figures.hpp"
#include "trainer/report/page.hpp"

#include <filesystem>

namespace triphase::trainer {

void write_report(const std::vector<std::string>& run_dirs, const std::string& out) {
  namespace fs = std::filesystem;
  TRIPHASE_CHECK(ConfigError, !run_dirs.empty(), "a report needs one run folder at least");
  const fs::path page(out);
  const fs::path data = fs::path(page).replace_extension(".json");
  TRIPHASE_CHECK(ConfigError, page.has_filename() && page != data, "the report's file '", out,
                 "' must end in .html; its figures go beside it as .json");
  std::vector<ReportRun> runs;
  for (const std::string& folder : run_dirs) runs.push_back(read_report_run(folder));
  Json figures;
  std::string html;
  try {
    figures = report_figures(runs);
    html = report_page(figures);
  } catch (const Json::exception& error) {
    throw DataError(str("a run folder holds JSON of another form than Triphase writes (",
                        error.what(), "). Train or evaluate that run again."));
  }
  if (page.has_parent_path()) make_output_directory(page.parent_path());
  write_json(data, figures);
  write_file_atomically(page, html);
}

}  // namespace triphase::trainer
