// SPDX-License-Identifier: Apache-2.0
// Studies that run on one rank: their results, what is not made again, and what fails.
#include <csignal>
#include <set>
#include <sstream>

#include "base/json.hpp"
#include "tests/trainer/study_fixture.hpp"
#include "tests/trainer/xml_check.hpp"
#include "trainer/loop/stop_request.hpp"
#include "trainer/report/format.hpp"
#include "trainer/train.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using trainer::StudyConfig;
using trainer::StudyOutcome;

struct RunningStudy {
  StudyOutcome run(const StudyConfig& config) { return trainer::run_study(config, runtime, false); }
  [[nodiscard]] Json json() const { return read_json(study.results() / "study.json"); }
  [[nodiscard]] std::vector<std::string> statuses() const {
    std::vector<std::string> result;
    const Json read = json();
    for (const Json& cell : read.at("cells")) result.push_back(cell.at("status").get<std::string>());
    return result;
  }
  TemporaryFolder folder;
  StudyFolder study{folder.path()};
  dist::Runtime runtime{{.backend = "self"}};
};

const std::string kMethods = "[study.axes]\n\"adapt.method\" = [\"full\", \"peft\"]\n";
const std::string kSeeds = "[study.axes]\n\"run.seed\" = [0, 1]\n";

TEST(RunStudy, TellsTheEvaluationsAndMakesNoCellTwice) {
  RunningStudy given;
  const StudyConfig config = given.study.load(kMethods + "\"run.seed\" = [0, 1]\n");
  const StudyOutcome outcome = given.run(config);
  EXPECT_FALSE(outcome.stopped_on_request);
  EXPECT_EQ(outcome.exit_code, ExitCode::kDone);
  EXPECT_EQ(xml_error(read_text(outcome.report)), "");
  const Json json = given.json();
  EXPECT_EQ(json.at("axes")[0].at("values"), Json({"full", "peft"}));
  ASSERT_EQ(json.at("cells").size(), 4U);
  for (const Json& cell : json.at("cells")) {
    EXPECT_EQ(cell.at("status"), "done");
    const Json evaluation = read_json(fs::path(cell.at("run_dir").get<std::string>()) / "evaluation/test.json");
    EXPECT_EQ(evaluation.at("model").at("adapt_method"), cell.at("settings").at("adapt.method"));
    for (const auto& [name, finding] : evaluation.at("findings").items()) {
      for (const char* key : {"auc", "auc_ci95", "f1", "sensitivity"})
        EXPECT_EQ(cell.at("findings").at(name).at(key), finding.at(key)) << key;
      EXPECT_FALSE(cell.at("findings").at(name).contains("roc"));  // curves stay in the runs
      EXPECT_NE(outcome.table.find(trainer::score_text(finding.at("auc"))), std::string::npos);
    }
    EXPECT_EQ(cell.at("training").at("steps"), 2);
  }
  EXPECT_NE(outcome.table.find("over seeds"), std::string::npos);
  // Again: nothing is trained or evaluated, but for the one whose evaluation is gone.
  const fs::path first(json.at("cells")[0].at("run_dir").get<std::string>());
  const fs::path last(json.at("cells")[3].at("run_dir").get<std::string>());
  fs::remove(first / "evaluation/test.json");
  const std::string metrics = read_text(first / "metrics.jsonl");
  const fs::file_time_type made = fs::last_write_time(last / "evaluation/test.json");
  EXPECT_EQ(given.run(config).table, outcome.table);
  EXPECT_EQ(given.json().dump(), json.dump());
  EXPECT_EQ(read_text(first / "metrics.jsonl"), metrics);
  EXPECT_EQ(fs::last_write_time(last / "evaluation/test.json"), made);
}

TEST(RunStudy, ACellThatFailsIsToldAndTheOthersGoOn) {
  RunningStudy given;
  const auto study = [&](const std::string& prompts) {
    return given.study.load("[[study.cells]]\n\"run.seed\" = 1\n\"evaluate.prompts\" = \"" + prompts +
                            "\"\n[[study.cells]]\n\"run.seed\" = 2\n");
  };
  const std::string absent = (given.folder / "none.toml").string();
  const StudyOutcome outcome = given.run(study(absent));
  EXPECT_EQ(outcome.exit_code, ExitCode::kMissingInput);
  const Json json = given.json();
  EXPECT_EQ(json.at("cells")[0].at("status"), "failed");
  EXPECT_EQ(json.at("cells")[0].at("error").at("exit_code"), 66);
  EXPECT_NE(json.at("cells")[0].at("error").at("message").get<std::string>().find("none.toml"), std::string::npos);
  EXPECT_EQ(json.at("cells")[1].at("status"), "done");
  EXPECT_NE(outcome.table.find("failed: " + json.at("cells")[0].at("name").get<std::string>()), std::string::npos);
  EXPECT_TRUE(fs::exists(outcome.report));
  // Once the file is there the cell is made, and it alone.
  fs::copy_file(tiny_cache().prompts(), absent);
  const fs::path other = fs::path(json.at("cells")[1].at("run_dir").get<std::string>()) / "evaluation/test.json";
  const fs::file_time_type made = fs::last_write_time(other);
  EXPECT_EQ(given.run(study(absent)).exit_code, ExitCode::kDone);
  EXPECT_EQ(given.json().at("cells")[0].at("status"), "done");
  EXPECT_EQ(fs::last_write_time(other), made);
}

TEST(RunStudy, RefusesToPassOldResultsOffAsThoseOfOtherSettings) {
  RunningStudy given;
  static_cast<void>(given.run(given.study.load(kSeeds)));
  const fs::path run = given.study.results() / "s1";
  const std::string before = read_text(given.study.results() / "study.json");
  const auto refuse = [&](const StudyConfig& config, std::initializer_list<std::string> words) {
    expect_error<Error>([&] { static_cast<void>(given.run(config)); }, ExitCode::kUsage, words);
  };
  const std::string faster = kSeeds + "[[study.when]]\nset = {\"optimizer.lr\" = 0.5}\n";
  refuse(given.study.load(faster), {"s0", "optimizer.lr is 0.001 there, 0.5 here", "study.name"});
  refuse(given.study.load(kSeeds, "", {{"TRIPHASE__schedule__max_steps", "3"}}), {"schedule.max_steps"});
  // A run that was stopped before its evaluation counts, too; so does one with other keys.
  fs::remove_all(run / "evaluation");
  fs::remove_all(given.study.results() / "s0");
  refuse(given.study.load(faster), {"s1", "config.toml", "optimizer.lr"});
  write_text(run / "config.toml", "[run]\nnme = \"a\"\n");
  refuse(given.study.load(kSeeds), {"s1", "run.nme"});
  EXPECT_EQ(read_text(given.study.results() / "study.json"), before);  // nothing was written over
  EXPECT_FALSE(fs::exists(given.study.results() / "s0"));
  // What decides no number may change, and a run that is moved away is made again.
  fs::remove_all(run);
  static_cast<void>(given.run(given.study.load(kSeeds)));
  const fs::file_time_type made = fs::last_write_time(run / "evaluation/test.json");
  static_cast<void>(given.run(given.study.load(kSeeds, "", {},
                                               {"data.workers=2", "run.max_seconds=1e6", "checkpoint.keep_last=1",
                                                "distributed.timeout_seconds=60", "run.log_every_steps=5"})));
  EXPECT_EQ(fs::last_write_time(run / "evaluation/test.json"), made);
}

TEST(RunStudy, StopsOnRequestAndGoesOnWhereItStopped) {
  RunningStudy given;
  const StudyConfig config = given.study.load(kSeeds);
  trainer::install_stop_signals();
  trainer::clear_stop_request();
  std::raise(SIGUSR1);
  EXPECT_TRUE(trainer::stop_requested());
  const StudyOutcome stopped = given.run(config);
  trainer::clear_stop_request();
  EXPECT_TRUE(stopped.stopped_on_request);
  EXPECT_EQ(given.statuses(), (std::vector<std::string>{"not_run", "not_run"}));
  EXPECT_FALSE(given.run(config).stopped_on_request);
  EXPECT_EQ(given.statuses(), (std::vector<std::string>{"done", "done"}));
}

TEST(RunStudy, SitesMakeAMatrix) {
  RunningStudy given;
  const StudyOutcome outcome = given.run(given.study.load(
      "[study.axes]\n\"data.sites\" = [[\"south\"], [\"north\", \"south\"]]\n"
      "[[study.when]]\nset = {\"evaluate.sites\" = [\"*\"], \"data.test_split\" = \"train\"}\n"));
  std::istringstream matrix(outcome.table.substr(outcome.table.find("hcc AUC where tested")));
  std::string line;
  std::getline(matrix, line);
  EXPECT_NE(line.find("trained on"), std::string::npos);
  std::getline(matrix, line);
  EXPECT_LT(line.find("north"), line.find("south"));
  std::set<std::string> seen;
  const Json json = given.json();
  for (const Json& cell : json.at("cells")) {
    std::getline(matrix, line);
    ASSERT_EQ(cell.at("by_site").size(), 2U);
    std::string expected;  // the line's end: north's, then south's
    for (const Json& site : cell.at("by_site")) {
      const Json& hcc = site.at("findings").at("hcc");
      const std::string auc = trainer::score_text(hcc.at("auc")) + " " + trainer::interval_text(hcc.at("auc_ci95"));
      expected += (expected.empty() ? "" : "  ") + auc;
      seen.insert(auc);
    }
    EXPECT_TRUE(line.ends_with(expected)) << line << " does not end with " << expected;
  }
  EXPECT_GT(seen.size(), 1U);  // else the order was not checked
}

}  // namespace
}  // namespace triphase::test
