// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/test_support.hpp"
#include "tests/trainer/drawn_scores.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

TEST(ScoreFinding, HasEveryFieldAndTheThresholdOfTheValidationSplit) {
  const ScoredSplit test = draw("test", 1, 80).samples;
  const ScoredSplit validation = draw("validation", 2, 60).samples;
  const Json json = score_finding(test, validation, options());
  for (const char* key : {"auc", "average_precision", "f1", "sensitivity", "specificity", "ppv", "npv",
                          "balanced_accuracy"}) {
    EXPECT_TRUE(json.at(key).is_number()) << key;
    const Json& interval = json.at(std::string(key) + "_ci95");
    ASSERT_EQ(interval.size(), 2u) << key;
    EXPECT_LE(interval[0].get<double>(), json.at(key).get<double>()) << key;
    EXPECT_GE(interval[1].get<double>(), json.at(key).get<double>()) << key;
  }
  EXPECT_LT(json.at("auc_delong_ci95")[0].get<double>(), json.at("auc").get<double>());
  for (const auto& [curve, y] : {std::pair{"roc", "tpr"}, std::pair{"precision_recall", "precision"}})
    for (const char* end : {"", "_low", "_high"})
      EXPECT_EQ(json.at(curve).at(std::string(y) + end).size(), 51u) << curve << end;
  EXPECT_TRUE(json.at("threshold").is_number());
  EXPECT_EQ(json.at("auc"), roc_auc(test.scores, test.labels));
  const double threshold = choose_threshold("youden", validation.scores, validation.labels);
  EXPECT_EQ(json.at("threshold"), threshold);
  EXPECT_EQ(json.at("threshold_from"), "validation");
  EXPECT_EQ(json.at("threshold_rule"), "youden");
  EXPECT_EQ(json.at("f1"), metrics_at(threshold, test.scores, test.labels).f1);
  EXPECT_EQ(json.at("n_positive").get<int>() + json.at("n_negative").get<int>(), 80);
  EXPECT_EQ(json.at("scoring"), "prompts");
  EXPECT_FALSE(json.contains("reason"));
}

TEST(ScoreFinding, OneClassGivesNullAndSaysWhy) {
  const ScoredSplit test = draw("test", 1, 20, 0).samples;
  const Json json = score_finding(test, draw("validation", 2, 60).samples, options());
  for (const char* key : {"auc", "auc_ci95", "auc_delong_ci95", "average_precision", "f1", "ppv_ci95",
                          "threshold", "roc"})
    EXPECT_TRUE(json.at(key).is_null()) << key;
  EXPECT_NE(json.at("reason").get<std::string>().find("'test' has 0 positive and 20 negative"),
            std::string::npos);
  EXPECT_EQ(json.dump().find("nan"), std::string::npos);
}

TEST(ScoreFinding, WithoutAThresholdTheAucStands) {
  const ScoredSplit test = draw("test", 1, 40).samples;
  for (const ScoredSplit& validation : {ScoredSplit{}, draw("validation", 2, 10, 1).samples}) {
    const Json json = score_finding(test, validation, options());
    EXPECT_TRUE(json.at("auc").is_number());
    EXPECT_EQ(json.at("auc_ci95").size(), 2u);
    for (const char* key : {"f1", "f1_ci95", "sensitivity", "threshold", "threshold_from"})
      EXPECT_TRUE(json.at(key).is_null()) << key;
    EXPECT_TRUE(json.contains("reason"));
  }
}

TEST(ScoreFinding, SaysWhenTheThresholdSawTheScoredSplit) {
  const ScoredSplit validation = draw("validation", 2, 40).samples;
  EXPECT_TRUE(score_finding(validation, validation, options()).contains("note"));
}

TEST(ScoreFinding, DrawsNoIntervalsWhenNoneAreWanted) {
  ScoringOptions none = options();
  none.bootstrap_samples = 0;
  const Json json =
      score_finding(draw("test", 1, 40).samples, draw("validation", 2, 40).samples, none);
  EXPECT_TRUE(json.at("f1").is_number());
  EXPECT_TRUE(json.at("auc_ci95").is_null());
  EXPECT_EQ(json.at("roc").at("tpr").size(), 51u);
  EXPECT_TRUE(json.at("roc").at("tpr_low").is_null());
}

TEST(ScoreFinding, CalibrationIsThatOfTheProbabilities) {
  ScoredSplit test = draw("test", 1, 80).samples;
  const ScoredSplit validation = draw("validation", 2, 60).samples;
  EXPECT_TRUE(score_finding(test, validation, options()).at("calibration").is_null());
  for (const double score : test.scores) test.probabilities.push_back(1 / (1 + std::exp(-score)));
  ScoringOptions with_words = options();
  with_words.probabilities = "a guess";
  const Json json = score_finding(test, validation, with_words).at("calibration");
  const Calibration expected = calibration(test.probabilities, test.labels);
  EXPECT_EQ(json.at("of"), "a guess");
  EXPECT_EQ(json.at("brier"), expected.brier);
  EXPECT_EQ(json.at("ece"), expected.ece);
  ASSERT_EQ(json.at("bins").size(), expected.bins.size());
  std::int64_t n = 0;
  for (std::size_t i = 0; i < expected.bins.size(); ++i) {
    EXPECT_EQ(json.at("bins")[i].at("fraction_positive"), expected.bins[i].fraction_positive);
    EXPECT_EQ(json.at("bins")[i].at("mean_predicted"), expected.bins[i].mean_predicted);
    n += json.at("bins")[i].at("n").get<std::int64_t>();
  }
  EXPECT_EQ(n, 80);
}

TEST(ScoreFinding, RefusesAScoreThatIsNotFinite) {
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    ScoredSplit test = draw("test", 1, 20).samples;
    test.scores[7] = bad;
    expect_error<NumericsError>([&] { (void)score_finding(test, {}, options()); }, ExitCode::kDiverged, {"'test'"});
  }
}

}  // namespace
}  // namespace triphase::trainer
