// SPDX-License-Identifier: Apache-2.0
#include "trainer/study.hpp"

#include <algorithm>
#include <csignal>
#include <sstream>

#include "base/json.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "tests/trainer/xml_check.hpp"
#include "trainer/loop/stop_request.hpp"
#include "trainer/report/format.hpp"
#include "trainer/train.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using trainer::StudyConfig;

/// A base run file and a grid over it, in a folder of its own.
struct StudyFolder {
  StudyFolder() {
    trainer::RunConfig base = tiny_run(folder.path(), {{"schedule.max_steps", "2"},
                                                       {"schedule.warmup_steps", "0"},
                                                       {"evaluate.bootstrap_samples", "20"}});
    write_text(folder / "base.toml", base.resolved_toml);
  }
  [[nodiscard]] StudyConfig load(const std::string& more,
                                 const std::map<std::string, std::string>& environment = {},
                                 const std::vector<std::string>& sets = {}) const {
    write_text(folder / "study.toml", "[study]\nname = \"grid\"\noutput_dir = \"" +
                                          (folder / "runs").string() + "\"\nbase = [\"" +
                                          (folder / "base.toml").string() + "\"]\n" + more);
    return trainer::load_study_config(
        {.files = {folder / "study.toml"}, .environment = environment, .sets = sets});
  }
  TemporaryFolder folder;
};

TEST(StudyConfig, GivesTheGridInOrderWithEachMethodsSettings) {
  const StudyFolder study;
  const StudyConfig config = study.load(
      "methods = [\"full\", \"peft\"]\ntemperatures = [0.07, 1.0]\nseeds = [3, 1]\n"
      "full_set = [\"optimizer.lr=0.5\"]\npeft_set = [\"adapt.image.rank=3\"]\n");
  const std::vector<trainer::StudyRun> runs = trainer::study_runs(config);
  ASSERT_EQ(runs.size(), 8U);
  std::size_t i = 0;
  std::set<std::string> folders;
  for (const char* method : {"full", "peft"}) {
    for (const double temperature : {0.07, 1.0}) {
      for (const std::int64_t seed : {3, 1}) {
        const trainer::StudyRun& run = runs[i++];
        EXPECT_EQ(run.method, method);
        EXPECT_EQ(run.config.adapt.method, method);
        EXPECT_EQ(run.temperature, temperature);
        EXPECT_EQ(run.config.loss.temperature_init, temperature);
        EXPECT_EQ(run.seed, seed);
        EXPECT_EQ(run.config.run.seed, seed);
        EXPECT_EQ(run.config.optimizer.lr, run.method == "full" ? 0.5 : 1e-3);
        EXPECT_EQ(run.config.adapt.image.rank, run.method == "peft" ? 3 : 8);
        EXPECT_EQ(run.config.batch.global_pairs, 6);  // the base's
        folders.insert(run.config.run_dir());
      }
    }
  }
  EXPECT_EQ(folders.size(), 8U);
  const std::string text = trainer::describe_study(config);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 8);
  for (const std::string& folder : folders) EXPECT_NE(text.find(folder + "\n"), std::string::npos);
  EXPECT_FALSE(fs::exists(study.folder / "runs"));
}

TEST(StudyConfig, TemperaturesThatLieCloseTogetherStayApart) {
  const StudyFolder study;
  const StudyConfig config =
      study.load("methods = [\"full\"]\ntemperatures = [0.0700000001, 0.07]\n");
  const std::vector<trainer::StudyRun> runs = trainer::study_runs(config);
  EXPECT_EQ(runs[0].config.loss.temperature_init, 0.0700000001);
  EXPECT_EQ(runs[1].config.loss.temperature_init, 0.07);
  EXPECT_NE(runs[0].config.run_dir(), runs[1].config.run_dir());
}

TEST(StudyConfig, EnvironmentAndSetsReachTheStudyOrItsRuns) {
  const StudyFolder study;
  const std::string more = "methods = [\"peft\"]\npeft_set = [\"optimizer.lr=0.5\"]\n";
  const std::map<std::string, std::string> environment{{"TRIPHASE__STUDY__seeds", "[5, 6]"},
                                                       {"TRIPHASE__schedule__max_steps", "3"},
                                                       {"TRIPHASE__optimizer__lr", "0.25"},
                                                       {"TRIPHASE__run__seed", "9"}};
  const std::vector<trainer::StudyRun> runs = trainer::study_runs(
      study.load(more, environment, {"study.temperatures=[0.2]", "data.workers=2"}));
  ASSERT_EQ(runs.size(), 2U);
  for (const trainer::StudyRun& run : runs) {
    EXPECT_EQ(run.config.run.seed, run.seed);  // the grid's, whatever the environment says
    EXPECT_EQ(run.temperature, 0.2);
    EXPECT_EQ(run.config.schedule.max_steps, 3);  // over the base file
    EXPECT_EQ(run.config.optimizer.lr, 0.5);      // under peft_set
    EXPECT_EQ(run.config.data.workers, 2);
  }
  EXPECT_EQ(runs[0].seed, 5);
  EXPECT_EQ(trainer::study_runs(study.load(more, environment, {"optimizer.lr=0.125"}))[0]
                .config.optimizer.lr,
            0.125);  // over peft_set
}

TEST(StudyConfig, KeysThatNothingReadsAreRefusedWhereverTheyStand) {
  const StudyFolder study;
  const auto refuse = [&](const std::map<std::string, std::string>& environment,
                          const std::vector<std::string>& sets,
                          std::initializer_list<std::string> words) {
    expect_error<ConfigError>(
        [&] { static_cast<void>(trainer::study_runs(study.load("", environment, sets))); },
        ExitCode::kUsage, words);
  };
  refuse({{"TRIPHASE__study__seed", "[1]"}}, {}, {"TRIPHASE__study__seed", "study.seeds"});
  refuse({{"TRIPHASE__schedule__steps", "3"}}, {}, {"TRIPHASE__schedule__steps"});
  refuse({}, {"study.seed=[1]"}, {"--set study.seed", "study.seeds"});
  refuse({}, {"stduy.seeds=[1]"}, {"--set stduy"});
  refuse({}, {"study.seeds"}, {"no '='"});
  refuse({}, {"run.seed=1"}, {"--set run.seed", "study.seeds"});
  refuse({}, {"loss.temperature_init=1"}, {"study.temperatures"});
}

TEST(StudyConfig, WhatCannotBeIsRefusedWithItsPlace) {
  const StudyFolder study;
  const auto refuse = [&](const std::string& more, std::initializer_list<std::string> words) {
    expect_error<ConfigError>([&] { static_cast<void>(study.load(more)); }, ExitCode::kUsage,
                              words);
  };
  refuse("methods = [\"lora\"]\n", {"study.toml:5", "lora", "peft"});
  refuse("methods = []\n", {"study.toml:5", "one value"});
  refuse("seeds = []\n", {"one value"});
  refuse("temperatures = []\n", {"one value"});
  refuse("temperature = [0.1]\n", {"study.toml:5", "temperature", "temperatures"});
  expect_error<ConfigError>([] { static_cast<void>(trainer::load_study_config({})); },
                            ExitCode::kUsage, {"study.base"});
  expect_error<ConfigError>(
      [&] {
        static_cast<void>(trainer::study_runs(study.load("full_set = [\"optimizer.rate=1\"]\n")));
      },
      ExitCode::kUsage, {"optimizer.rate"});
}

TEST(RunStudy, ReportsTheEvaluationsAndMakesNoRunTwice) {
  const StudyFolder study;
  const StudyConfig config = study.load("temperatures = [0.07, 0.5]\n");
  dist::Runtime runtime({.backend = "self"});
  const trainer::StudyOutcome outcome = trainer::run_study(config, runtime, false);
  EXPECT_FALSE(outcome.stopped_on_request);
  const std::string page = read_text(outcome.report);
  EXPECT_EQ(xml_error(page), "");
  const fs::path root = study.folder / "runs/grid";
  const Json rows = read_json(root / "study.json").at("runs");
  ASSERT_EQ(rows.size(), 8U);  // two methods, two temperatures, two findings
  for (const Json& row : rows) {
    const fs::path run(row.at("run_dir").get<std::string>());
    const Json evaluation = read_json(run / "evaluation/test.json");
    const Json& finding = evaluation.at("findings").at(row.at("finding").get<std::string>());
    for (const char* key : {"auc", "f1", "sensitivity"}) {
      EXPECT_EQ(row.at(key), finding.at(key));
      EXPECT_NE(xml_text(page).find(trainer::score_text(finding.at(key))), std::string::npos);
    }
    EXPECT_EQ(row.at("linear_probe_auc"), finding.at("linear_probe").at("auc"));
    EXPECT_EQ(evaluation.at("model").at("adapt_method"), row.at("method"));
  }
  // The table has a heading and a row for each.
  EXPECT_EQ(std::count(outcome.table.begin(), outcome.table.end(), '\n'), 9);

  // Again: nothing is trained or evaluated, but for the one whose evaluation is gone.
  const fs::path first(rows[0].at("run_dir").get<std::string>());
  const fs::path last(rows[7].at("run_dir").get<std::string>());
  write_text(last / "evaluation/test.json",
             read_text(last / "evaluation/test.json") + "\n");  // a mark that must stay
  fs::remove(first / "evaluation/test.json");
  const std::string metrics = read_text(first / "metrics.jsonl");
  const trainer::StudyOutcome again = trainer::run_study(config, runtime, false);
  EXPECT_EQ(again.table, outcome.table);
  EXPECT_EQ(read_json(root / "study.json").at("runs").dump(), rows.dump());
  EXPECT_EQ(read_text(first / "metrics.jsonl"), metrics);
  EXPECT_TRUE(read_text(last / "evaluation/test.json").ends_with("\n\n") ||
              read_text(last / "evaluation/test.json").ends_with("}\n"));
}

TEST(RunStudy, RefusesToPassOldResultsOffAsThoseOfOtherSettings) {
  const StudyFolder study;
  const std::string grid = "methods = [\"peft\"]\nseeds = [0, 1]\n";
  dist::Runtime runtime({.backend = "self"});
  static_cast<void>(trainer::run_study(study.load(grid), runtime, false));
  const fs::path root = study.folder / "runs/grid";
  const fs::path run = root / "peft_t0.07_s1";
  const std::string page = read_text(root / "study.json");
  const auto refuse = [&](const StudyConfig& config, std::initializer_list<std::string> words) {
    expect_error<Error>([&] { static_cast<void>(trainer::run_study(config, runtime, false)); },
                        ExitCode::kUsage, words);
  };
  refuse(study.load(grid + "peft_set = [\"optimizer.lr=0.5\"]\n"),
         {"peft_t0.07_s0", "optimizer.lr is 0.001 there, 0.5 here", "study.name"});
  refuse(study.load(grid, {{"TRIPHASE__schedule__max_steps", "3"}}), {"schedule.max_steps"});
  // A run that was stopped before its evaluation counts, too; so does one with other keys.
  fs::remove_all(run / "evaluation");
  fs::remove_all(root / "peft_t0.07_s0");
  refuse(study.load(grid + "peft_set = [\"adapt.image.rank=3\"]\n"),
         {"peft_t0.07_s1", "config.toml", "adapt.image.rank"});
  write_text(run / "config.toml", "[run]\nnme = \"a\"\n");
  refuse(study.load(grid), {"peft_t0.07_s1", "run.nme"});
  EXPECT_EQ(read_text(root / "study.json"), page);  // nothing was written over
  EXPECT_FALSE(fs::exists(root / "peft_t0.07_s0"));
  // What decides no number may change, and a run that is moved away is made again.
  fs::remove_all(run);
  static_cast<void>(trainer::run_study(study.load(grid), runtime, false));
  const fs::path result = run / "evaluation/test.json";
  const fs::file_time_type made = fs::last_write_time(result);
  static_cast<void>(trainer::run_study(
      study.load(grid, {},
                 {"data.workers=2", "run.max_seconds=1e6", "checkpoint.keep_last=1",
                  "distributed.timeout_seconds=60", "run.log_every_steps=5"}),
      runtime, false));
  EXPECT_EQ(fs::last_write_time(result), made);
}

TEST(RunStudy, StopsOnRequestAndGoesOnWhereItStopped) {
  const StudyFolder study;
  const StudyConfig config = study.load("methods = [\"full\"]\nseeds = [0, 1]\n");
  dist::Runtime runtime({.backend = "self"});
  trainer::install_stop_signals();
  trainer::clear_stop_request();
  std::raise(SIGUSR1);
  EXPECT_TRUE(trainer::stop_requested());
  const trainer::StudyOutcome stopped = trainer::run_study(config, runtime, false);
  trainer::clear_stop_request();
  EXPECT_TRUE(stopped.stopped_on_request);
  EXPECT_FALSE(fs::exists(study.folder / "runs/grid/study.json"));
  const trainer::StudyOutcome done = trainer::run_study(config, runtime, false);
  EXPECT_FALSE(done.stopped_on_request);
  EXPECT_EQ(read_json(study.folder / "runs/grid/study.json").at("runs").size(), 4U);
}

TEST(Train, WritesALogOfEachRankAndRunsToItsEnd) {
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), {{"schedule.max_steps", "3"}});
  dist::Runtime runtime({.backend = "self"});
  Logger log(LoggerOptions{.quiet = true});
  const trainer::TrainResult result =
      trainer::train(config, {.resume = "never", .show_progress = false}, runtime, log);
  EXPECT_EQ(result.steps, 3);
  EXPECT_FALSE(result.stopped_on_request);
  const std::string text = read_text(folder / "run/logs/rank-00000.log");
  for (const char* part : {"train method=full", "steps=3", "validation step=3", "done step=3"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

}  // namespace
}  // namespace triphase::test
