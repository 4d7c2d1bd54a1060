// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/support/test_support.hpp"
#include "tests/trainer/drawn_scores.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

TEST(ScoreProbe, IsFittedOnTrainAndTunedOnValidationAlone) {
  const ProbeSplit train = draw("train", 1, 100);
  const ProbeSplit validation = draw("validation", 2, 60);
  ProbeSplit test = draw("test", 3, 80);
  const Json json = score_probe(train, validation, test, kFeatures, options(), {}).json;
  EXPECT_GT(json.at("auc").get<double>(), 0.8);
  EXPECT_EQ(json.at("features"), kFeatures);
  EXPECT_EQ(json.at("fitted_on"), "train");
  EXPECT_EQ(json.at("n_fitted"), 100);
  EXPECT_GT(json.at("c").get<double>(), 0);
  EXPECT_NE(json.at("scoring").get<std::string>().find("labels of split 'train'"),
            std::string::npos);
  // Turned labels of the scored split turn its AUC and nothing that was chosen before.
  for (std::int8_t& label : test.samples.labels) label = label == 1 ? 0 : 1;
  const Json turned = score_probe(train, validation, test, kFeatures, options(), {}).json;
  EXPECT_NEAR(turned.at("auc").get<double>(), 1 - json.at("auc").get<double>(), 1e-12);
  EXPECT_EQ(turned.at("c"), json.at("c"));
  EXPECT_EQ(turned.at("threshold"), json.at("threshold"));
}

TEST(ScoreProbe, TakesTheSmallestCOfTheBestValidationAuc) {
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
    const Json json = score_probe(train, validation, test, kFeatures, options(), {}).json;
    EXPECT_EQ(json.at("c"), best_c) << seed;
    chosen.insert(best_c);
  }
  EXPECT_GT(chosen.size(), 1U);  // the cohorts do not all want the same one
  EXPECT_TRUE(had_equals);
}

TEST(ScoreProbe, SaysWhyThereIsNone) {
  const ProbeSplit train = draw("train", 1, 40);
  const ProbeSplit validation = draw("validation", 2, 40);
  const auto reason = [&](const ProbeSplit& a, const ProbeSplit& b, const ProbeSplit& c) {
    const Json json = score_probe(a, b, c, kFeatures, options(), {}).json;
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

TEST(ScoreProbe, GivesTheScoresThatItsFiguresAreOf) {
  const ProbeSplit test = draw("test", 3, 80);
  const ProbeResult result = score_probe(draw("train", 1, 100), draw("validation", 2, 60), test, kFeatures, options(), {});
  EXPECT_EQ(result.json.at("auc"), roc_auc(result.scores, test.samples.labels));
  std::vector<double> probabilities;
  for (const double score : result.scores) probabilities.push_back(1 / (1 + std::exp(-score)));
  EXPECT_EQ(result.json.at("calibration").at("brier"), calibration(probabilities, test.samples.labels).brier);
}

TEST(ScoreProbe, MoreShotsFindMoreAndAllOfThemAreTheProbeItself) {
  // 40 of either class: with 40 shots every draw is the whole split.
  ProbeSplit train = draw("train", 1, 80);
  for (std::size_t i = 0; i < 80; ++i) train.samples.labels[i] = i % 2 == 0;
  for (std::size_t i = 0; i < 80; ++i) train.features[i * kFeatures] += train.samples.labels[i] == 1 ? 4 : 0;
  const ProbeSplit validation = draw("validation", 2, 60);
  const ProbeSplit test = draw("test", 3, 200);
  const ProbeOptions curve{.features = "drawn", .shots = {1, 4, 16, 40, 41, 64}, .repeats = 20};
  const Json json = score_probe(train, validation, test, kFeatures, options(), curve).json;
  const Json& points = json.at("k_shot");
  ASSERT_EQ(points.size(), 4u);  // there are no 41 of either class
  for (const Json& point : points) EXPECT_EQ(point.at("repeats"), 20);
  EXPECT_LT(points[0].at("auc_mean").get<double>(), points[2].at("auc_mean").get<double>());
  EXPECT_GT(points[0].at("auc_sd").get<double>(), points[2].at("auc_sd").get<double>());
  EXPECT_NEAR(points[3].at("auc_mean").get<double>(), json.at("auc").get<double>(), 1e-12);
  EXPECT_NEAR(points[3].at("auc_sd").get<double>(), 0, 1e-12);
  EXPECT_EQ(score_probe(train, validation, test, kFeatures, options(), curve).json.dump(), json.dump());
  ScoringOptions other_seed = options();
  other_seed.seed = 4;
  EXPECT_NE(score_probe(train, validation, test, kFeatures, other_seed, curve).json.at("k_shot"), points);
}

TEST(ScoreProbe, HasNoCurveWhereTheTrainingSplitIsTooSmall) {
  ProbeSplit train = draw("train", 1, 12);
  for (std::size_t i = 0; i < 12; ++i) train.samples.labels[i] = i < 3;
  const Json json = score_probe(train, draw("validation", 2, 60), draw("test", 3, 80), kFeatures, options(),
                                {.features = "drawn", .shots = {4, 8}, .repeats = 2})
                        .json;
  EXPECT_TRUE(json.at("auc").is_number());
  EXPECT_TRUE(json.at("k_shot").is_null());
}

TEST(ScoreProbe, ShuffledLabelsFindNothing) {
  for (const std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{20}, std::uint64_t{300}}) {
    const Json json = score_probe(draw("train", seed, 100), draw("validation", seed + 1, 60), draw("test", seed + 2, 200),
                                  kFeatures, options(), {.features = "drawn", .shots = {}, .repeats = 60})
                          .json;
    EXPECT_GT(json.at("auc").get<double>(), 0.8);
    const Json& control = json.at("shuffled_labels");
    const double error = control.at("auc_sd").get<double>() / std::sqrt(60.0);
    EXPECT_NEAR(control.at("auc_mean").get<double>(), 0.5, 4 * error) << seed;
    EXPECT_GT(control.at("auc_sd").get<double>(), 0.01);
  }
}

}  // namespace
}  // namespace triphase::trainer
