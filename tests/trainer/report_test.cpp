// SPDX-License-Identifier: Apache-2.0
#include "trainer/report.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <set>

#include "base/json.hpp"
#include "tests/trainer/report_fixture.hpp"
#include "tests/trainer/xml_check.hpp"
#include "trainer/report/format.hpp"

namespace triphase::trainer {
namespace {

using namespace test;
namespace fs = std::filesystem;

Page usual_page(const TemporaryFolder& folder) {
  return report({write_run(folder.path(), "pretrain", {"pretrain", "full", "source", 0.931, 40}),
                 write_run(folder.path(), "before", {"before", "full", "target", 0.847, 0}),
                 write_run(folder.path(), "full", {"full", "full", "target", 0.965, 40}),
                 write_run(folder.path(), "peft", {"peft", "peft", "target", 0.933, 40})},
                folder / "out/report.html");
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is missing";
}

TEST(Report, IsOneWellFormedPageThatFetchesNothing) {
  const TemporaryFolder folder;
  const Page page = usual_page(folder);
  EXPECT_EQ(xml_error(page.html), "");
  for (const char* outside : {"<script", "<link", "<img", "@import", "url("})
    EXPECT_EQ(page.html.find(outside), std::string::npos) << outside;
  // The only address is the name of the XHTML form.
  EXPECT_EQ(page.html.find("http", page.html.find("w3.org")), std::string::npos);
  for (const char* part : {"prefers-color-scheme: dark", "width=device-width", "<svg"})
    expect_contains(page.html, part);
}

TEST(Report, TellsTheStoryWithItsNumbers) {
  const TemporaryFolder folder;
  const Page page = usual_page(folder);
  const std::string story = page.json.at("headline");
  for (const char* part :
       {"300 test studies of target", "117 with hcc", "from 0.847 [0.816, 0.869]",
        "0.965 [0.934, 0.987] with full fine-tuning",
        "0.933 [0.902, 0.955] with PEFT (1.26 % of the parameters)",
        "At source, run 'pretrain' reaches 0.931"})
    expect_contains(story, part);
  expect_contains(test::xml_text(page.html), story);
  expect_contains(page.html, "no clinical evidence");
}

TEST(Report, SeveralRunsOfAMethodGiveARange) {
  const TemporaryFolder folder;
  const Page page = report({write_run(folder.path(), "a", {"s0", "full", "target", 0.949, 10}),
                            write_run(folder.path(), "b", {"s1", "full", "target", 0.965, 10}),
                            write_run(folder.path(), "c", {"s2", "full", "target", 0.951, 10})},
                           folder / "report.html");
  expect_contains(page.json.at("headline"), "0.949 to 0.965 over 3 runs with full fine-tuning");
}

/// Calls see(text as the page writes it) for every figure of the runs.
void for_each_figure(const Json& json, const std::function<void(const std::string&)>& see) {
  for (const Json& run : json.at("runs")) {
    for (const auto& [finding, prompts] : run.at("evaluations")[0].at("findings").items()) {
      for (const Json& values : {prompts, prompts.at("linear_probe")}) {
        for (const char* key : {"auc", "f1", "sensitivity", "specificity"}) {
          see(score_text(values.at(key)));
          see(interval_text(values.at(std::string(key) + "_ci95")));
        }
        see("\n" + count_text(values.at("n_positive")) + "\n");
        see("\n" + count_text(values.at("n_negative")) + "\n");
      }
    }
    const Json& retrieval = run.at("evaluations")[0].at("retrieval");
    for (const char* direction : {"image_to_text", "text_to_image"})
      for (const char* key : {"recall_at_1", "recall_at_5", "recall_at_10"})
        see(score_text(retrieval.at(direction).at(key)));
    if (!run.at("is_trained").get<bool>()) continue;
    see(count_text(run.at("trainable").at("num_trainable")));
    see(count_text(run.at("trainable").at("num_base_parameters")));
    see(decimal(run.at("trainable").at("percent").get<double>(), 3) + " %");
    see(run.at("trainable").at("percent_of"));
    see(count_text(run.at("cost").at("steps")));
    see(seconds_text(run.at("cost").at("seconds_per_step")));
    see(number_text(run.at("cost").at("pairs_per_second")));
    see(bytes_text(run.at("cost").at("bytes_reduced_per_step")));
    for (const auto& [phase, seconds] : run.at("cost").at("seconds").items())
      see(" " + seconds_text(seconds));
    for (const char* key : {"loss", "temperature"})
      for (const char* end : {"first", "last"}) see(number_text(run.at("training").at(key).at(end)));
    see(decimal(run.at("training").at("best_validation").at("loss").get<double>(), 3));
    see("\n" + count_text(run.at("training").at("best").at("step")) + "\n");
  }
  for (const Json& cohort : json.at("cohorts")) {
    see(cohort.at("data_hash"));
    for (const Json& row : cohort.at("rows")) {
      see(row.at("split"));
      see(count_text(row.at("n")));
      see(count_text(row.at("patients")));
    }
  }
  for (const Json& setting : json.at("settings")) {
    see(setting.at("key"));
    for (const Json& value : setting.at("values"))
      see(value.is_null() ? "–" : value.get<std::string>());
  }
}

TEST(Report, EveryFigureOfTheDataStandsOnThePage) {
  const TemporaryFolder folder;
  const Page page = usual_page(folder);
  const std::string text = test::xml_text(page.html);
  int seen = 0;
  for_each_figure(page.json, [&](const std::string& figure) {
    ++seen;
    expect_contains(text, figure);
  });
  EXPECT_GT(seen, 100);
  expect_contains(text, "39.667 %");  // prevalence, unknown labels left out
}

TEST(Report, FiguresFollowFromTheRunsRecords) {
  const TemporaryFolder folder;
  const Json run = usual_page(folder).json.at("runs")[3];
  EXPECT_EQ(run.at("name"), "peft");
  EXPECT_EQ(run.at("method"), "peft");
  EXPECT_EQ(run.at("cost").at("steps"), 40);
  EXPECT_EQ(run.at("cost").at("pairs_seen"), 1280);
  EXPECT_NEAR(run.at("cost").at("seconds_per_step").get<double>(), 0.373, 1e-12);
  EXPECT_EQ(run.at("cost").at("seconds").at("backward"), 0.223);
  EXPECT_EQ(run.at("cost").at("bytes_reduced_per_step"), 49380);
  EXPECT_EQ(run.at("training").at("best_validation").at("step"), 20);
  EXPECT_EQ(run.at("curves").at("loss").size(), 40u);
  EXPECT_EQ(run.at("curves").at("validation_auc").at("hcc").size(), 4u);
  // Smoothing keeps the first value and stays between the extremes.
  EXPECT_EQ(run.at("curves").at("loss_smooth")[0][1], run.at("curves").at("loss")[0][1]);
}

TEST(Report, CurvesOfOtherTrainingDataHaveTheirOwnCharts) {
  const TemporaryFolder folder;
  const auto polylines_by_chart = [](const std::string& html) {
    std::vector<std::set<std::string>> charts;  // the series of each chart of AUCs
    for (std::size_t at = 0; (at = html.find("<figcaption>Validation AUC", at)) != std::string::npos; ++at) {
      std::set<std::string> series;
      const std::size_t end = html.find("</figure>", at);
      for (std::size_t i = at; (i = html.find("<g class=\"", i + 1)) < end;) series.insert(html.substr(i + 10, 2));
      charts.push_back(series);
    }
    return charts;
  };
  using Charts = std::vector<std::set<std::string>>;
  // The same (all) sites: one row of charts, without a heading.
  const std::string together = usual_page(folder).html;
  EXPECT_EQ(polylines_by_chart(together), (Charts{{"c0", "c2", "c3"}}));
  EXPECT_EQ(together.find("Trained on "), std::string::npos);
  std::string config = read_text(folder / "pretrain/config.toml");
  config.replace(config.find("[data]\n"), 7, "[data]\nsites = [\"a<b\"]\n");
  write_text(folder / "pretrain/config.toml", config);
  const std::string apart = report({folder / "pretrain", folder / "full", folder / "peft"},
                                   folder / "out/apart.html")
                                .html;
  EXPECT_EQ(xml_error(apart), "");
  EXPECT_EQ(polylines_by_chart(apart), (Charts{{"c0"}, {"c1", "c2"}}));
  expect_contains(test::xml_text(apart), "Trained on a<b");
  expect_contains(test::xml_text(apart), "Trained on all sites");
}

TEST(Report, NamesOnlyTheSettingsThatDiffer) {
  const TemporaryFolder folder;
  const Json json = usual_page(folder).json;
  std::string keys;
  for (const Json& setting : json.at("settings"))
    keys += setting.at("key").get<std::string>() + " ";
  EXPECT_EQ(keys, "adapt.method ");
}

TEST(Report, HostileNamesStayText) {
  const TemporaryFolder folder;
  // A run's name holds no '/'; what stands in an evaluation may be anything.
  const std::string name = "<script>alert('x')<b>&\"";
  const std::string site = "</title></svg><script>alert('x')</script>&\"";
  const RunOnDisk run{.name = name, .site = site};
  const Page page = report({write_run(folder.path(), "a", run), write_run(folder.path(), "b", {})},
                           folder / "report.html");
  EXPECT_EQ(xml_error(page.html), "");
  EXPECT_EQ(page.html.find("<script"), std::string::npos);
  expect_contains(test::xml_text(page.html), name);
  expect_contains(test::xml_text(page.html), site);
}

/// Replaces a number in one of a run's files.
void replace_in(const fs::path& file, const std::string& from, const std::string& to) {
  std::string text = read_text(file);
  ASSERT_NE(text.find(from), std::string::npos) << from << " in " << file;
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  write_text(file, text);
}

TEST(Report, AChangedInputChangesItsFigureOnThePage) {
  struct Change {
    std::string file;
    std::string from, to;       ///< in the file
    std::string before, after;  ///< on the page
  };
  const std::vector<Change> changes{
      {"evaluation/test.json", "0.842", "0.641", "0.842", "0.641"},
      {"evaluation/test.json", "0.781", "0.555", "[0.781, 0.893]", "[0.555, 0.893]"},
      {"evaluation/test.json", "0.871", "0.654", "0.871", "0.654"},
      {"evaluation/test.json", "0.764", "0.653", "0.764", "0.653"},
      {"evaluation/test.json", "\"n_positive\":117", "\"n_positive\":109", "\n117\n",
       "\n109\n"},
      {"evaluation/test.json", "0.377", "0.399", "0.377", "0.399"},
      {"evaluation/test.json", "\"patients\":307", "\"patients\":303", "307", "303"},
      {"evaluation/test.json", "\"positive\":119", "\"positive\":120", "39.667 %",
       "39.867 %"},
      {"environment.json", "99.871", "98.765", "99.871 %", "98.765 %"},
      {"environment.json", "12345", "12399", "12,345", "12,399"},
      {"metrics.jsonl", "0.223", "0.423", "0.373 s", "0.573 s"},
      {"metrics.jsonl", "49380", "98760", "48.2 KiB", "96.4 KiB"},
      {"metrics.jsonl", "\"loss\":3.4,", "\"loss\":7.9,", "\n3.4\n", "\n7.9\n"},
      {"metrics.jsonl", "\"loss\":2.5,", "\"loss\":2.111,", "\n2.500\n",
       "\n2.111\n"}};
  for (const Change& change : changes) {
    SCOPED_TRACE(change.file + " " + change.from);
    const TemporaryFolder folder;
    const fs::path run = write_run(folder.path(), "a", {});
    const std::string before = test::xml_text(report({run}, folder / "report.html").html);
    replace_in(run / change.file, change.from, change.to);
    const Page changed = report({run}, folder / "report.html");
    const std::string after = test::xml_text(changed.html);
    EXPECT_NE(before.find(change.before), std::string::npos) << change.before;
    EXPECT_EQ(before.find(change.after), std::string::npos) << change.after;
    EXPECT_EQ(after.find(change.before), std::string::npos) << change.before;
    EXPECT_NE(after.find(change.after), std::string::npos) << change.after;
    EXPECT_EQ(xml_error(changed.html), "");
  }
}

TEST(Report, RunsOfOneNameAreToldApart) {
  const TemporaryFolder folder;
  const Json json = report({write_run(folder.path(), "a", {}), write_run(folder.path(), "b", {})},
                           folder / "report.html")
                        .json;
  EXPECT_EQ(json.at("runs")[0].at("name"), "full");
  EXPECT_EQ(json.at("runs")[1].at("name"), "full (2)");
}

TEST(Report, AnUnevaluatedOrUnfinishedRunIsReportedAsFarAsItWent) {
  const TemporaryFolder folder;
  const fs::path run = write_run(folder.path(), "a", {});
  fs::remove_all(run / "evaluation");
  fs::remove(run / "environment.json");
  write_text(run / "metrics.jsonl", read_text(run / "metrics.jsonl") + "{\"step\": 41, \"lo");
  const Page page = report({run}, folder / "report.html");
  EXPECT_EQ(xml_error(page.html), "");
  expect_contains(page.json.at("headline"), "in run 'full' the loss went from");
  EXPECT_EQ(page.json.at("runs")[0].at("cost").at("steps"), 40);
}

TEST(Report, OneClassSaysWhyThereIsNoNumber) {
  const TemporaryFolder folder;
  const fs::path run = write_run(folder.path(), "a", {});
  Json json = evaluation({});
  Json& hcc = json["findings"]["hcc"];
  for (const char* key : {"auc", "auc_ci95", "f1", "f1_ci95"}) hcc[key] = nullptr;
  hcc["reason"] = "split 'test' has 0 positive and 9 negative samples; both are needed";
  write_text(run / "evaluation" / "test.json", json.dump());
  const Page page = report({run}, folder / "report.html");
  EXPECT_EQ(xml_error(page.html), "");
  expect_contains(page.html, "0 positive and 9 negative");
}

TEST(Report, NamesTheFolderAndFileThatIsMissingOrDamaged) {
  const TemporaryFolder folder;
  const auto write = [&](const fs::path& run) {
    return [&folder, run] { write_report({run.string()}, (folder / "report.html").string()); };
  };
  expect_error<DataError>(write(folder / "nowhere"), ExitCode::kMissingInput, {"nowhere"});
  fs::create_directories(folder / "empty");
  expect_error<DataError>(write(folder / "empty"), ExitCode::kMissingInput,
                          {"empty", "config.toml"});

  const fs::path bare = write_run(folder.path(), "bare", {});
  fs::remove_all(bare / "evaluation");
  fs::remove(bare / "metrics.jsonl");
  expect_error<DataError>(write(bare), ExitCode::kMissingInput, {"bare", "metrics.jsonl"});

  const fs::path damaged = write_run(folder.path(), "damaged", {});
  write_text(damaged / "metrics.jsonl", "{\"step\": 1, \"loss\": 2}\nnonsense\n{\"step\": 2}\n");
  expect_error<DataError>(write(damaged), ExitCode::kBadData, {"metrics.jsonl", "line 2"});

  const fs::path other = write_run(folder.path(), "other", {});
  write_text(other / "evaluation" / "test.json", "{\"split\": \"test\"}");
  expect_error<DataError>(write(other), ExitCode::kBadData, {"test.json", "findings"});
  EXPECT_FALSE(fs::exists(folder / "report.html"));
}

TEST(Report, RefusesAnOutputThatItsFiguresWouldReplace) {
  const TemporaryFolder folder;
  const fs::path run = write_run(folder.path(), "a", {});
  expect_error<ConfigError>([&] { write_report({run.string()}, (folder / "a.json").string()); },
                            ExitCode::kUsage, {"a.json", ".html"});
  expect_error<ConfigError>([&] { write_report({}, (folder / "a.html").string()); },
                            ExitCode::kUsage, {"one run folder"});
}

}  // namespace
}  // namespace triphase::trainer
