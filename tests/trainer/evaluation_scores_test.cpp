// SPDX-License-Identifier: Apache-2.0
// The parts of an evaluation beside its figures: scores of each sample, sites, subgroups, probes of reports.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "dist/runtime.hpp"
#include "tests/trainer/evaluation_fixture.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

Evaluation evaluate(const Settings& changes, const std::string& split = "test") {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path(), changes);
  const auto self = dist::make_self_group();
  return evaluate_with_scores(subject.model, *subject.cache, subject.config, split, *self, false);
}

TEST(EvaluationScores, AreThoseThatTheFiguresAreOf) {
  const Evaluation evaluation = evaluate({});
  EXPECT_EQ(evaluation.scores.at("data_hash"), evaluation.json.at("data_hash"));
  const data::Cache cache(tiny_cache().cache());
  for (const auto& [finding, rows] : evaluation.scores.at("findings").items()) {
    const auto labels = rows.at("label").get<std::vector<std::int8_t>>();
    const auto index = rows.at("index").get<std::vector<std::int64_t>>();
    EXPECT_TRUE(std::is_sorted(index.begin(), index.end()));
    for (std::size_t i = 0; i < index.size(); ++i)
      EXPECT_EQ(cache.entries()[static_cast<std::size_t>(index[i])].labels[finding == "hcc" ? 0 : 1], labels[i]);
    const Json& scored = evaluation.json.at("findings").at(finding);
    const auto auc = [&](const char* key) { return roc_auc(rows.at(key).get<std::vector<double>>(), labels); };
    EXPECT_EQ(scored.at("auc"), auc("prompt"));
    for (const char* probe : {"linear_probe", "report_probe"})
      if (!rows.at(probe).is_null()) {
        EXPECT_EQ(scored.at(probe).at("auc"), auc(probe));
      }
  }
  EXPECT_EQ(evaluation.scores.dump().find("\"s2"), std::string::npos);  // no ids
}

TEST(EvaluationScores, AreWrittenBesideTheResult) {
  const TemporaryFolder folder;
  const RunConfig config = evaluation_subject(folder.path()).config;
  dist::Runtime runtime({.backend = "self"});
  Logger log(LoggerOptions{.quiet = true});
  const Json json = evaluate_run(config, "", "test", "", runtime, log, false);
  const std::filesystem::path written = std::filesystem::path(config.run_dir()) / "evaluation";
  const Json scores = read_json(written / "test.scores.json");
  EXPECT_EQ(scores.at("data_hash"), json.at("data_hash"));
  EXPECT_EQ(scores.at("findings").size(), 2u);
}

double learned_scale() {
  const TemporaryFolder folder;
  return std::exp(evaluation_subject(folder.path()).model->log_scale().to(at::kDouble).item<double>());
}

TEST(EvaluationScores, SoftmaxKeepsTheOrderAndIsTheProbability) {
  const Evaluation difference = evaluate({{"evaluate.linear_probe", "false"},
                                          {"evaluate.report_probe", "false"}});
  const Evaluation softmax = evaluate({{"evaluate.scoring", "\"softmax\""},
                                       {"evaluate.linear_probe", "false"},
                                       {"evaluate.report_probe", "false"}});
  const auto scores = [](const Evaluation& of) {
    return of.scores.at("findings").at("hcc").at("prompt").get<std::vector<double>>();
  };
  // evaluation_subject() draws a model whose scale is the preset's, not the run's.
  const double scale = learned_scale();
  const std::vector<double> from = scores(difference);
  const std::vector<double> to = scores(softmax);
  for (std::size_t i = 0; i < from.size(); ++i) EXPECT_NEAR(to[i], 1 / (1 + std::exp(-scale * from[i])), 1e-12);
  EXPECT_EQ(softmax.json.at("findings").at("hcc").at("auc"), difference.json.at("findings").at("hcc").at("auc"));
  const auto labels = softmax.scores.at("findings").at("hcc").at("label").get<std::vector<std::int8_t>>();
  EXPECT_EQ(softmax.json.at("findings").at("hcc").at("calibration").at("brier"), calibration(to, labels).brier);
}

TEST(EvaluationProbes, TheReportsOneSeesTheTextAlone) {
  const Json hcc = evaluate({}).json.at("findings").at("hcc");
  EXPECT_EQ(hcc.at("report_probe").at("n_fitted"), 18);
  EXPECT_NE(hcc.at("report_probe").at("features"), hcc.at("linear_probe").at("features"));
  EXPECT_NE(hcc.at("report_probe").at("scoring").get<std::string>().find("reports"), std::string::npos);
  EXPECT_FALSE(evaluate({{"evaluate.report_probe", "false"}}).json.at("findings").at("hcc").contains("report_probe"));
  const Json curve = evaluate({{"evaluate.k_shot", "[2]"}, {"evaluate.k_shot_repeats", "3"}})
                         .json.at("findings").at("hcc").at("linear_probe").at("k_shot");
  ASSERT_EQ(curve.size(), 1u);
  EXPECT_EQ(curve[0].at("k"), 2);
  EXPECT_EQ(curve[0].at("repeats"), 3);
}

TEST(EvaluationSites, ScoredOnesMayBeOthersThanThoseTunedOn) {
  const Settings no_probes{{"evaluate.linear_probe", "false"}, {"evaluate.report_probe", "false"}};
  const auto with = [&](const std::string& trained, const std::string& scored) {
    Settings settings = no_probes;
    settings["data.sites"] = trained;
    settings["evaluate.sites"] = scored;
    return evaluate(settings, "validation").json;
  };
  const Json north = with("[\"north\"]", "[]");
  const Json everywhere = with("[\"north\"]", "[\"*\"]");
  const Json south = with("[\"north\"]", "[\"south\"]");
  EXPECT_EQ(north.at("sites"), Json({"north"}));
  EXPECT_EQ(everywhere.at("sites"), Json({"north", "south"}));
  EXPECT_EQ(everywhere.at("n"), 8);
  EXPECT_EQ(south.at("sites"), Json({"south"}));
  // The threshold is that of the training's sites, whatever is scored.
  const auto threshold = [](const Json& json) { return json.at("findings").at("hcc").at("threshold"); };
  EXPECT_EQ(threshold(everywhere), threshold(north));
  EXPECT_EQ(threshold(south), threshold(north));
  // A site's line is what an evaluation of that site alone says.
  ASSERT_EQ(everywhere.at("by_site").size(), 2u);
  for (const Json& row : everywhere.at("by_site")) {
    const Json& alone = row.at("site") == "north" ? north : south;
    EXPECT_EQ(row.at("n"), alone.at("n"));
    for (const char* key : {"auc", "auc_ci95", "n_positive", "n_negative"})
      EXPECT_EQ(row.at("findings").at("hcc").at(key), alone.at("findings").at("hcc").at(key)) << key;
  }
}

TEST(EvaluationSubgroups, AreJoinedByIdAndCheckedBeforeAnythingIsEmbedded) {
  const TemporaryFolder folder;
  const data::Cache cache(tiny_cache().cache());
  std::string text = "id,patient_id,site,split,image,report,label:hcc,ward\n";
  for (const data::CacheEntry& entry : cache.entries())
    text += entry.id + "," + entry.patient_id + "," + entry.site + "," + entry.split + ",x.nii,report,1,w" +
            (entry.id.size() == 2 ? "1" : "2") + "\n";
  write_text(folder / "manifest.csv", text);
  Settings settings{{"evaluate.manifest", "\"" + (folder / "manifest.csv").string() + "\""},
                    {"evaluate.linear_probe", "false"},
                    {"evaluate.report_probe", "false"},
                    {"evaluate.subgroups", "[\"ward\", \"site\"]"}};
  const Json json = evaluate(settings, "all").json;
  std::vector<std::string> rows;
  for (const Json& row : json.at("by_subgroup"))
    rows.push_back(str(row.at("column").get<std::string>(), "=", row.at("value").get<std::string>(), " ", row.at("n")));
  EXPECT_EQ(rows.at(0), "ward=w1 10");
  EXPECT_EQ(rows.at(1), "ward=w2 20");
  EXPECT_EQ(rows.size(), 4u);
  settings["evaluate.subgroups"] = "[\"wrad\"]";
  expect_error<Error>([&] { (void)evaluate(settings, "all"); }, ExitCode::kUsage, {"'wrad'", "'ward'"});
}

}  // namespace
}  // namespace triphase::trainer
