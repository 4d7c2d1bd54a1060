// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "base/random.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/evaluate_finding.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

constexpr std::int64_t kFeatures = 4;

ProbeSplit draw(const std::string& split, std::uint64_t seed, int n, double prevalence = 0.5) {
  KeyedRandom random{seed};
  ProbeSplit drawn;
  drawn.samples.split = split;
  for (int i = 0; i < n; ++i) {
    const bool positive = random.chance(prevalence);
    drawn.samples.labels.push_back(positive ? 1 : 0);
    drawn.samples.scores.push_back(random.normal(positive ? 1 : 0, 1));
    drawn.samples.patient_ids.push_back(str(split, i / 2));
    for (std::int64_t j = 0; j < kFeatures; ++j)
      drawn.features.push_back(random.normal(positive && j == 0 ? 2 : 0, 1));
  }
  return drawn;
}

ScoringOptions options() {
  return {.scoring = "prompts", .threshold_rule = "youden", .bootstrap_samples = 100, .seed = 3};
}

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

TEST(ScoreLinearProbe, IsFittedOnTrainAndTunedOnValidationAlone) {
  const ProbeSplit train = draw("train", 1, 100);
  const ProbeSplit validation = draw("validation", 2, 60);
  ProbeSplit test = draw("test", 3, 80);
  const Json json = score_linear_probe(train, validation, test, kFeatures, options());
  EXPECT_GT(json.at("auc").get<double>(), 0.8);
  EXPECT_EQ(json.at("features"), kFeatures);
  EXPECT_EQ(json.at("fitted_on"), "train");
  EXPECT_EQ(json.at("n_fitted"), 100);
  EXPECT_GT(json.at("c").get<double>(), 0);
  EXPECT_NE(json.at("scoring").get<std::string>().find("labels of split 'train'"),
            std::string::npos);
  // Turned labels of the scored split turn its AUC and nothing that was chosen before.
  for (std::int8_t& label : test.samples.labels) label = label == 1 ? 0 : 1;
  const Json turned = score_linear_probe(train, validation, test, kFeatures, options());
  EXPECT_NEAR(turned.at("auc").get<double>(), 1 - json.at("auc").get<double>(), 1e-12);
  EXPECT_EQ(turned.at("c"), json.at("c"));
  EXPECT_EQ(turned.at("threshold"), json.at("threshold"));
}

TEST(ScoreLinearProbe, TakesTheSmallestCOfTheBestValidationAuc) {
  std::set<double> chosen;
  bool had_equals = false;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const ProbeSplit train = draw("train", 3 * seed + 1, 24);
    const ProbeSplit validation = draw("validation", 3 * seed + 2, seed % 2 == 0 ? 12 : 60);
    const ProbeSplit test = draw("test", 3 * seed + 3, 40);
    double best_c = 0;
    double best_auc = -1;
    for (const double c : {10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4}) {
      const LinearProbe probe =
          fit_linear_probe(train.features, kFeatures, train.samples.labels, c);
      const double auc =
          roc_auc(probe_scores(probe, validation.features, kFeatures), validation.samples.labels);
      had_equals = had_equals || auc == best_auc;
      if (auc < best_auc) continue;
      best_auc = auc;
      best_c = c;
    }
    const Json json = score_linear_probe(train, validation, test, kFeatures, options());
    EXPECT_EQ(json.at("c"), best_c) << seed;
    chosen.insert(best_c);
  }
  EXPECT_GT(chosen.size(), 1U);  // the cohorts do not all want the same one
  EXPECT_TRUE(had_equals);
}

TEST(ScoreLinearProbe, SaysWhyThereIsNone) {
  const ProbeSplit train = draw("train", 1, 40);
  const ProbeSplit validation = draw("validation", 2, 40);
  const auto reason = [&](const ProbeSplit& a, const ProbeSplit& b, const ProbeSplit& c) {
    const Json json = score_linear_probe(a, b, c, kFeatures, options());
    EXPECT_TRUE(json.at("auc").is_null());
    return json.at("reason").get<std::string>();
  };
  EXPECT_NE(reason(train, validation, train).find("'train' is the one"), std::string::npos);
  EXPECT_NE(reason(draw("train", 1, 9, 1), validation, draw("test", 3, 40)).find("'train' has"),
            std::string::npos);
  EXPECT_NE(
      reason(train, draw("validation", 1, 9, 1), draw("test", 3, 40)).find("'validation' has"),
      std::string::npos);
}

}  // namespace
}  // namespace triphase::trainer
