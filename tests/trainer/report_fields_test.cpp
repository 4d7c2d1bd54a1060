// SPDX-License-Identifier: Apache-2.0
// What evaluations of this version hold more, and what the page says of runs that lack it.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/trainer/report_of_this_version.hpp"
#include "trainer/metrics.hpp"
#include "trainer/metrics_delong.hpp"
#include "trainer/report/format.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

TEST(ReportOfThisVersion, DrawsEveryFigureThatItHasNumbersFor) {
  const TemporaryFolder folder;
  const NewPage page(folder);
  EXPECT_EQ(xml_error(page.html), "");
  for (const char* title :
       {"ROC, prompts", "ROC, linear probe", "Precision and recall, prompts", "Reliability, prompts", "Validation AUC, hcc",
        "Temperature", "AUC of a probe fitted on k studies of each class", "AUC by training and test site",
        "Recall, image to report", "Recall, report to image"})
    EXPECT_NE(page.html.find("<figcaption>" + std::string(title)), std::string::npos) << title;
  for (const char* id : {"results", "shape", "training", "temperature", "cost", "places", "retrieval", "cohort", "settings",
                         "origins", "limits"})
    EXPECT_NE(page.html.find("<section id=\"" + std::string(id) + "\""), std::string::npos) << id;
  for (const char* number : {"0.1234", "0.0567", "0.822", "0.7123", "0.8765"})
    EXPECT_NE(page.text.find(score_text(Json::parse(number))), std::string::npos) << number;
  // A drawing is named for those who do not see it, and its numbers stand in a table.
  std::size_t drawings = 0;
  for (std::size_t at = 0; (at = page.html.find("<svg viewBox", at + 1)) != std::string::npos;) {
    const std::string tag = page.html.substr(at, page.html.find('>', at) - at);
    if (tag.find("aria-hidden") != std::string::npos) continue;  // a legend's line, beside its name
    EXPECT_NE(tag.find("aria-label=\""), std::string::npos) << tag;
    ++drawings;
  }
  EXPECT_GT(drawings, 12u);
}

TEST(ReportOfThisVersion, HasEachTableAsCsvWithTheSameNumbers) {
  const TemporaryFolder folder;
  const NewPage page(folder);
  ASSERT_GT(page.json.at("tables").size(), 15u);
  for (const Json& table : page.json.at("tables")) {
    const std::string name = table.at("name");
    std::string expected;
    for (const Json& column : table.at("columns")) expected += (expected.empty() ? "" : ",") + column.at("key").get<std::string>();
    const std::string csv = read_text(folder / "out/report_figures" / (name + ".csv"));
    EXPECT_EQ(csv.substr(0, csv.find('\r')), expected) << name;
    for (const Json& row : table.at("rows"))
      for (const Json& value : row)
        if (value.is_number()) {
          EXPECT_NE(csv.find(value.dump()), std::string::npos) << name << " " << value;
        }
    EXPECT_NE(page.html.find("report_figures/" + name + ".csv"), std::string::npos) << name;
  }
  // What an earlier page had and this one has not does not stay.
  write_text(folder / "out/report_figures/k_shot.csv", "old");
  const Page bare = report({write_run(folder.path(), "old", {})}, folder / "out/report.html");
  EXPECT_FALSE(fs::exists(folder / "out/report_figures/k_shot.csv"));
}

TEST(ReportOfThisVersion, ComparesRunsOnTheSameStudiesPaired) {
  const TemporaryFolder folder;
  const Json json = NewPage(folder).json;
  ASSERT_EQ(json.at("differences").size(), 1u);
  const Json& row = json.at("differences")[0];
  const auto rows = [&](const char* run) {
    return read_json(folder / run / "evaluation/test.scores.json").at("findings").at("hcc");
  };
  const auto of = [](const Json& json_rows) { return json_rows.at("prompt").get<std::vector<double>>(); };
  const auto labels = rows("full").at("label").get<std::vector<std::int8_t>>();
  const AucDifference expected = compare_aucs(of(rows("peft")), of(rows("full")), labels);
  EXPECT_EQ(row.at("run_a"), "full");
  EXPECT_EQ(row.at("run_b"), "peft");
  EXPECT_EQ(row.at("difference"), expected.difference);
  EXPECT_EQ(row.at("p_value"), expected.p);
  EXPECT_EQ(row.at("auc_b"), roc_auc(of(rows("peft")), labels));
  EXPECT_NEAR(row.at("auc_b").get<double>() - row.at("auc_a").get<double>(), expected.difference, 1e-12);
  // On other data nothing is compared.
  Json elsewhere = read_json(folder / "peft/evaluation/test.scores.json");
  elsewhere["data_hash"] = "4567";
  write_text(folder / "peft/evaluation/test.scores.json", elsewhere.dump());
  EXPECT_TRUE(report({folder / "full", folder / "peft"}, folder / "b.html").json.at("differences").empty());
}

TEST(ReportOfSeveralVersions, NamesWhatARunsFilesLack) {
  const TemporaryFolder folder;
  const Page page = report({write_new_run(folder.path(), {.name = "new"}, 0.07, 1),
                            write_run(folder.path(), "old", {.name = "old", .method = "peft"})},
                           folder / "report.html");
  EXPECT_EQ(xml_error(page.html), "");
  std::string of_old;
  for (const Json& missing : page.json.at("missing"))
    if (missing.at("run") == "old") of_old += missing.at("fields").dump();
    else EXPECT_EQ(missing.at("fields").dump().find("\"roc\""), std::string::npos);
  for (const char* field : {"roc", "calibration", "by_site", "report_probe", "retrieval.pools"})
    EXPECT_NE(of_old.find("\"" + std::string(field) + "\""), std::string::npos) << field << " in " << of_old;
  const std::string text = xml_text(page.html.substr(page.html.find("<section id=\"missing\"")));
  for (const char* part : {"old", "by_site", "evaluate the run again"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
}

TEST(Report, AStudysFolderStandsForItsCellsThatAreDone) {
  const TemporaryFolder folder;
  write_run(folder.path(), "study/a", {.name = "a"});
  write_run(folder.path(), "study/b", {.name = "b"});
  const auto cell = [](const char* name, const char* status) { return Json{{"name", name}, {"status", status}}; };
  const auto write_study = [&](const Json& cells) {
    write_text(folder / "study/study.json", Json{{"name", "study"}, {"cells", cells}}.dump());
  };
  write_study(Json::array({cell("a", "done"), cell("c", "failed"), cell("b", "done")}));
  const Json runs = report({folder / "study"}, folder / "report.html").json.at("runs");
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].at("name"), "a");
  EXPECT_EQ(runs[1].at("name"), "b");
  write_study(Json::array({cell("c", "failed")}));
  expect_error<DataError>([&] { static_cast<void>(report({folder / "study"}, folder / "report.html")); },
                          ExitCode::kMissingInput, {"study", "no cell that is done"});
}

TEST(ReportSummary, IsALineARunForATerminal) {
  const TemporaryFolder folder;
  const fs::path full = write_run(folder.path(), "full", {});
  const fs::path peft = write_run(folder.path(), "peft", {.name = "peft", .method = "peft", .auc = 0.933});
  const std::string summary = write_report({full.string(), peft.string()}, (folder / "r.html").string());
  for (const char* part : {"full", "peft", "0.965 [0.934, 0.987]", "0.933 [0.902, 0.955]", "0.842"})
    EXPECT_NE(summary.find(part), std::string::npos) << part << " in\n" << summary;
}

}  // namespace
}  // namespace triphase::trainer
