// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/json.hpp"
#include "tests/support/test_support.hpp"
#include "tests/trainer/xml_check.hpp"
#include "trainer/report/figures.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"
#include "trainer/report/read.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TemporaryFolder;
using test::write_text;

/// A run folder with a configuration, metrics and evaluations; each optional but the first.
fs::path make_run(const TemporaryFolder& folder, const std::string& name,
                  const std::string& metrics, const std::map<std::string, Json>& evaluations) {
  const fs::path run = folder / name;
  fs::create_directories(run / "evaluation");
  write_text(run / "config.toml",
             "[run]\nname = \"" + name + "\"\n[data]\ntest_split = \"holdout\"\n");
  if (!metrics.empty()) write_text(run / "metrics.jsonl", metrics);
  for (const auto& [file, json] : evaluations)
    write_text(run / "evaluation" / (file + ".json"), json.dump());
  return run;
}

/// The texts of a piece of the page, one a line.
std::string texts(const std::string& html) {
  std::string lines = test::xml_text(html);
  lines.erase(std::unique(lines.begin(), lines.end(),
                          [](char a, char b) { return a == '\n' && b == '\n'; }),
              lines.end());
  return lines.starts_with("\n") ? lines.substr(1) : lines;
}

Json evaluation(const std::string& split, bool is_phantom = false) {
  return {
      {"split", split},
      {"n", 4},
      {"sites", {"north"}},
      {"phantom", is_phantom},
      {"data_hash", "0123"},
      {"findings",
       {{"hcc", {{"auc", 0.75}, {"auc_ci95", {0.5, 1.0}}, {"n_positive", 2}, {"n_negative", 2}}}}}};
}

TEST(FlatSettings, NameEveryKeyOfAResolvedConfiguration) {
  const RunConfig config = load_run_config(
      {.files = {}, .environment = {}, .sets = {"data.sites=[\"a = b\", \"c\"]", "run.seed=5"}});
  const auto settings = flat_settings(config.resolved_toml);
  const std::map<std::string, std::string> by_key(settings.begin(), settings.end());
  EXPECT_EQ(by_key.size(), settings.size());  // no key twice
  EXPECT_EQ(by_key.at("run.seed"), "5");
  EXPECT_EQ(by_key.at("adapt.image.rank"), "8");
  EXPECT_EQ(by_key.at("data.augment.noise_sigma"), "0.0");
  EXPECT_EQ(by_key.at("data.sites"), "[\"a = b\", \"c\"]");
  // Given one by one they make the same run.
  ConfigSources again;
  for (const auto& [key, value] : settings) again.sets.push_back(key + "=" + value);
  EXPECT_EQ(load_run_config(again).resolved_toml, config.resolved_toml);
}

TEST(ReadReportRun, OrdersRecordsByStepAndEvaluationsByName) {
  const TemporaryFolder folder;
  const fs::path path =
      make_run(folder, "a", "{\"step\": 2, \"loss\": 1}\n\n{\"step\": 1, \"loss\": 3}\n",
               {{"z", evaluation("train")}, {"b", evaluation("holdout")}});
  const ReportRun run = read_report_run(path);
  EXPECT_EQ(run.name, "a");
  EXPECT_TRUE(run.is_trained());
  ASSERT_EQ(run.records.size(), 2U);
  EXPECT_EQ(run.records[0].at("step"), 1);
  ASSERT_EQ(run.evaluations.size(), 2U);
  EXPECT_EQ(run.evaluations[0].at("split"), "holdout");
  EXPECT_TRUE(run.environment.is_null());
  const ReportRun bare = read_report_run(make_run(folder, "b", "", {{"x", evaluation("train")}}));
  EXPECT_FALSE(bare.is_trained());
  const fs::path empty = make_run(folder, "c", "", {});
  expect_error<DataError>([&] { static_cast<void>(read_report_run(empty)); },
                          ExitCode::kMissingInput, {"c", "metrics.jsonl"});
}

TEST(ReportFigures, TheTestSplitsEvaluationIsTheMainOne) {
  const TemporaryFolder folder;
  const fs::path both =
      make_run(folder, "a", "", {{"a", evaluation("train")}, {"b", evaluation("holdout")}});
  const fs::path other = make_run(folder, "b", "", {{"a", evaluation("train")}});
  const fs::path none = make_run(folder, "c", "{\"step\": 1, \"loss\": 3}\n", {});
  const Json runs =
      report_figures({read_report_run(both), read_report_run(other), read_report_run(none)})
          .at("runs");
  EXPECT_EQ(main_evaluation(runs[0])->at("split"), "holdout");
  EXPECT_EQ(main_evaluation(runs[1])->at("split"), "train");
  EXPECT_EQ(main_evaluation(runs[2]), nullptr);
  EXPECT_EQ(method_text(runs[0]), "no adaptation");
  EXPECT_EQ(method_text(runs[2]), "full fine-tuning");
  EXPECT_EQ(method_text({{"method", "peft"}}), "PEFT");
}

TEST(ReportPage, CallsSyntheticDataSyntheticAndNothingElse) {
  const TemporaryFolder folder;
  for (const bool is_phantom : {true, false}) {
    const fs::path run =
        make_run(folder, is_phantom ? "a" : "b", "", {{"x", evaluation("holdout", is_phantom)}});
    const Json figures = report_figures({read_report_run(run)});
    EXPECT_EQ(figures.at("phantom"), is_phantom);
    const std::string page = report_page(figures);
    EXPECT_EQ(test::xml_error(page), "");
    EXPECT_EQ(page.find("no clinical evidence") != std::string::npos, is_phantom);
    EXPECT_NE(page.find("0.750"), std::string::npos);
  }
}

TEST(ReportHeadline, ComparesNoNumbersOfDifferentData) {
  const TemporaryFolder folder;
  Json elsewhere = evaluation("holdout");
  elsewhere["data_hash"] = "4567";
  elsewhere["sites"] = {"south", "west", "east"};
  elsewhere["findings"]["hcc"]["auc"] = 0.875;
  const auto headline = [&](const Json& second) {
    const fs::path a = make_run(folder, "a", "", {{"x", evaluation("holdout")}});
    const fs::path b = make_run(folder, "b", "{\"step\": 1, \"loss\": 3}\n", {{"x", second}});
    return report_headline(report_figures({read_report_run(a), read_report_run(b)}));
  };
  EXPECT_NE(headline(evaluation("holdout")).find("from 0.750"), std::string::npos);
  const std::string apart = headline(elsewhere);
  EXPECT_EQ(apart.find(" goes from "), std::string::npos) << apart;
  EXPECT_NE(apart.find("At south, west and east, run 'b' reaches 0.875"), std::string::npos)
      << apart;
}

TEST(SitesText, JoinsNamesAsPeopleDo) {
  EXPECT_EQ(sites_text({{"sites", {"a"}}}), "a");
  EXPECT_EQ(sites_text({{"sites", {"a", "b"}}}), "a and b");
  EXPECT_EQ(sites_text({{"sites", {"a", "b", "c"}}}), "a, b and c");
  EXPECT_EQ(sites_text(Json::object()), "all sites");
}

TEST(HtmlTable, EscapesCellsAndIsNothingWithoutRows) {
  ShownTable table{.names = {"<run>", "AUC"}, .shown = {Shown::kText, Shown::kScore}, .rows = {}};
  EXPECT_EQ(html_table("scores", table), "");
  table.rows = {{"a & b", "<0.5"}, {"c", "1"}};
  const std::string html = html_table("s<c", table);
  EXPECT_EQ(test::xml_error(html), "");
  EXPECT_EQ(texts(html), "s<c\n<run>\nAUC\na & b\n<0.5\nc\n1\n");
  table.rows = {{"a"}};
  expect_error<InternalError>([&] { static_cast<void>(html_table("s", table)); }, ExitCode::kInternal,
                              {"1 cells", "2 columns"});
  EXPECT_EQ(html_section("x", "y", ""), "");
  EXPECT_EQ(texts(html_section("x", "a<b", "<p>c</p>")), "a<b\nc\n");
  EXPECT_EQ(texts(html_remark("<i>")), "<i>\n");
}

TEST(DataTable, IsTheSameInCsvAndForPeople) {
  std::vector<DataColumn> columns{{"run", "run"}};
  add_score_columns(columns, "auc", "AUC");
  columns.push_back({"n", "studies", Shown::kCount});
  DataTable table("t", "caption", columns);
  EXPECT_TRUE(table.empty());
  table.add({"a \"b\", c", 0.123456789012345, 0.1, 0.2, 12345});
  table.add({"d", nullptr, nullptr, nullptr, nullptr});
  expect_error<InternalError>([&] { table.add({"d"}); }, ExitCode::kInternal, {"'t'", "1 values", "5 columns"});
  const Json json = table.json();
  EXPECT_EQ(csv_text(json), "run,auc,auc_low,auc_high,n\r\n\"a \"\"b\"\", c\",0.123456789012345,0.1,0.2,12345\r\nd,,,,\r\n");
  const ShownTable shown = text_table(json);
  EXPECT_EQ(shown.names, (std::vector<std::string>{"run", "AUC [95 %]", "studies"}));
  EXPECT_EQ(shown.rows[0], (std::vector<std::string>{"a \"b\", c", "0.123 [0.100, 0.200]", "12,345"}));
  EXPECT_EQ(shown.rows[1][1], "–");
}

}  // namespace
}  // namespace triphase::trainer
