// SPDX-License-Identifier: Apache-2.0
// Every metric beside scikit-learn's over a sweep of drawn samples, DeLong beside its definition, and what must
// hold of any sample.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/metrics.hpp"
#include "trainer/metrics_curves.hpp"
#include "trainer/metrics_delong.hpp"

namespace triphase::trainer {
namespace {

using test::expect_error;
using test::load_golden_json;

struct Sample {
  std::vector<double> scores;
  std::vector<double> others;
  std::vector<double> probabilities;
  std::vector<std::int8_t> labels;
};

/// As tests/reference/make_metrics_sweep.py draws it; unknown labels are left out.
Sample draw(const Json& c) {
  auto state = c.at("seed").get<std::uint64_t>();
  const auto uniform = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state >> 11) * std::ldexp(1, -53);
  };
  const double levels = c.at("levels");
  const auto coarse = [&](double value) {
    return levels > 0 ? std::floor(value * levels) / levels : value;
  };
  Sample sample;
  for (int i = 0; i < c.at("n").get<int>(); ++i) {
    bool positive = uniform() < c.at("prevalence").get<double>();
    const double unknown = uniform();
    double score = uniform();
    double other = uniform();
    const double probability = uniform();
    if (i < 2 && c.at("has_both").get<bool>()) positive = i == 1;
    score += c.at("shift").get<double>() * (positive ? 1 : 0);
    other += 0.5 * score;
    if (i >= 2 && unknown < c.at("unknown").get<double>()) continue;
    sample.scores.push_back(coarse(score));
    sample.others.push_back(coarse(other));
    sample.probabilities.push_back(coarse(probability));
    sample.labels.push_back(positive ? 1 : 0);
  }
  return sample;
}

void expect_number(double actual, const Json& expected, const std::string& what) {
  if (expected.is_null())
    EXPECT_TRUE(std::isnan(actual)) << what << " is " << actual;
  else
    EXPECT_NEAR(actual, expected.get<double>(), 1e-12) << what;
}

TEST(MetricsSweep, AgreesWithScikitLearnAndWithDelongsDefinition) {
  const Json golden = load_golden_json("metrics_sweep");
  ASSERT_GE(golden.at("cases").size(), 150U);
  int num_compared = 0;
  for (const Json& c : golden.at("cases")) {
    const Sample sample = draw(c);
    const std::string name = str("n ", c.at("n").get<int>(), " seed ", c.at("seed").get<int>(), " ");
    ASSERT_EQ(std::ssize(sample.labels), c.at("known").get<std::int64_t>()) << name;
    ASSERT_EQ(std::count(sample.labels.begin(), sample.labels.end(), 1),
              c.at("positive").get<std::int64_t>());
    expect_number(roc_auc(sample.scores, sample.labels), c.at("auc"), name + "auc");
    expect_number(average_precision(sample.scores, sample.labels), c.at("average_precision"),
                  name + "average precision");
    const ThresholdMetrics at = metrics_at(c.at("threshold"), sample.scores, sample.labels);
    expect_number(at.f1, c.at("f1"), name + "f1");
    expect_number(at.sensitivity, c.at("sensitivity"), name + "sensitivity");
    expect_number(at.specificity, c.at("specificity"), name + "specificity");
    expect_number(at.ppv, c.at("ppv"), name + "ppv");
    expect_number(at.npv, c.at("npv"), name + "npv");
    expect_number(at.balanced_accuracy, c.at("balanced_accuracy"), name + "balanced accuracy");
    const Calibration calibrated = calibration(sample.probabilities, sample.labels);
    expect_number(calibrated.brier, c.at("brier"), name + "brier");
    expect_number(calibrated.ece, c.at("ece"), name + "ece");
    if (c.contains("delong_variance")) {
      expect_number(delong_interval(sample.scores, sample.labels).variance, c.at("delong_variance"),
                    name + "variance");
      const AucDifference both = compare_aucs(sample.scores, sample.others, sample.labels);
      expect_number(both.difference, c.at("difference"), name + "difference");
      expect_number(both.variance, c.at("difference_variance"), name + "its variance");
      if (c.at("p").is_number()) expect_number(both.p, c.at("p"), name + "p");
      ++num_compared;
    }
    if (!c.contains("roc")) continue;
    const Staircase stairs = climb(rank_samples(sample.scores), sample.labels);
    for (std::size_t j = 0; j < static_cast<std::size_t>(kCurvePoints); ++j) {
      expect_number(roc_curve_of(stairs)[j], c.at("roc").at(j), name + str("roc at ", j));
      expect_number(precision_recall_curve_of(stairs)[j], c.at("precision_recall").at(j),
                    name + str("precision at ", j));
    }
  }
  EXPECT_GE(num_compared, 80);
}

/// Drawn cases of both classes.
std::vector<Sample> samples() {
  std::vector<Sample> all;
  for (const int n : {8, 60, 300})
    for (const int levels : {0, 6})
      for (int seed = 1; seed <= 5; ++seed)
        all.push_back(draw({{"n", n}, {"seed", seed}, {"levels", levels}, {"prevalence", 0.4},
                            {"unknown", 0.0}, {"shift", 0.3}, {"has_both", true}}));
  return all;
}

TEST(AveragePrecision, DoesNotChangeUnderMonotoneMapsAndIsThePrevalenceOfEqualScores) {
  for (const Sample& sample : samples()) {
    std::vector<double> mapped;
    for (const double score : sample.scores) mapped.push_back(std::exp(5 * score) - 3);
    EXPECT_EQ(average_precision(mapped, sample.labels), average_precision(sample.scores, sample.labels));
    const double prevalence =
        static_cast<double>(std::count(sample.labels.begin(), sample.labels.end(), 1)) /
        static_cast<double>(sample.labels.size());
    EXPECT_NEAR(average_precision(std::vector<double>(sample.labels.size(), 0.5), sample.labels),
                prevalence, 1e-15);
  }
  EXPECT_TRUE(std::isnan(average_precision({0.1, 0.2}, {0, 0})));
}

TEST(Curves, RiseFromTheirCornersAndEncloseTheAuc) {
  for (const Sample& sample : samples()) {
    const Staircase stairs = climb(rank_samples(sample.scores), sample.labels);
    const std::vector<double> roc = roc_curve_of(stairs);
    ASSERT_EQ(roc.size(), static_cast<std::size_t>(kCurvePoints));
    EXPECT_TRUE(std::is_sorted(roc.begin(), roc.end()));
    EXPECT_EQ(roc.back(), 1);
    double area = 0;
    for (std::size_t j = 1; j < roc.size(); ++j) area += (roc[j] + roc[j - 1]) / 2 * 0.02;
    EXPECT_NEAR(area, auc_of(stairs), 0.03);  // the grid cuts corners
    const std::vector<double> precision = precision_recall_curve_of(stairs);
    const double prevalence = static_cast<double>(stairs.positive()) /
                              static_cast<double>(stairs.positive() + stairs.negative());
    EXPECT_LE(precision.front(), 1);
    EXPECT_GE(precision.back() + 1e-15, prevalence);
  }
}

TEST(Climb, WeightsAreRepeatedSamples) {
  for (const Sample& sample : samples()) {
    KeyedRandom random{sample.labels.size()};
    std::vector<std::int64_t> weights;
    Sample repeated;
    for (std::size_t i = 0; i < sample.labels.size(); ++i) {
      weights.push_back(i < 2 ? 1 : static_cast<std::int64_t>(random.below(4)));
      for (std::int64_t k = 0; k < weights.back(); ++k) {
        repeated.scores.push_back(sample.scores[i]);
        repeated.labels.push_back(sample.labels[i]);
      }
    }
    const Staircase weighted = climb(rank_samples(sample.scores), sample.labels, weights);
    const Staircase written_out = climb(rank_samples(repeated.scores), repeated.labels);
    EXPECT_EQ(weighted.true_positives, written_out.true_positives);
    EXPECT_EQ(weighted.false_positives, written_out.false_positives);
  }
}

TEST(Delong, ADifferenceIsAntisymmetricAndNothingOfEqualScores) {
  for (const Sample& sample : samples()) {
    const AucDifference one = compare_aucs(sample.scores, sample.others, sample.labels);
    const AucDifference other = compare_aucs(sample.others, sample.scores, sample.labels);
    EXPECT_NEAR(one.difference, -other.difference, 1e-15);
    EXPECT_NEAR(one.variance, other.variance, 1e-15);
    EXPECT_NEAR(one.p, other.p, 1e-12);
    EXPECT_NEAR(one.ci95[0], -other.ci95[1], 1e-12);
    const AucDifference none = compare_aucs(sample.scores, sample.scores, sample.labels);
    EXPECT_EQ(none.difference, 0);
    EXPECT_EQ(none.variance, 0);
    EXPECT_EQ(none.p, 1);
    EXPECT_NEAR(delong_interval(sample.scores, sample.labels).auc,
                roc_auc(sample.scores, sample.labels), 1e-14);
  }
}

// Two ways to one interval: at 1,500 samples the ends of both are within a fifth of its width.
TEST(Delong, AgreesWithTheBootstrapOnManySamples) {
  const Sample sample = draw({{"n", 1500}, {"seed", 5}, {"levels", 0}, {"prevalence", 0.4},
                              {"unknown", 0.0}, {"shift", 0.3}, {"has_both", true}});
  std::vector<std::string> patients;
  for (std::size_t i = 0; i < sample.labels.size(); ++i) patients.push_back(str(i));
  const auto delong = delong_interval(sample.scores, sample.labels).ci95;
  const auto drawn =
      bootstrap_by_patient(sample.scores, sample.labels, patients, 0.5, 1000, 1).auc;
  const double width = delong[1] - delong[0];
  EXPECT_NEAR(delong[0], drawn[0], width / 5);
  EXPECT_NEAR(delong[1], drawn[1], width / 5);
}

TEST(Delong, RefusesWhatHasNoAucAndKnowsNoVarianceOfOneSample) {
  expect_error<DataError>([] { (void)delong_interval({0.1, 0.2}, {1, 1}); }, ExitCode::kBadData,
                          {"2 of 2"});
  expect_error<NumericsError>([] { (void)delong_interval({0.1, std::nan("")}, {1, 0}); },
                              ExitCode::kDiverged, {"nan"});
  const AucInterval one = delong_interval({0.3, 0.1, 0.2}, {1, 0, 0});
  EXPECT_EQ(one.auc, 1);
  EXPECT_TRUE(std::isnan(one.variance));
  EXPECT_TRUE(std::isnan(compare_aucs({0.3, 0.1, 0.2}, {0.1, 0.2, 0.3}, {1, 0, 0}).p));
}

TEST(Calibration, OfAPerfectForecastIsZeroAndBinsHoldEverySampleOnce) {
  const Calibration perfect = calibration({0, 1, 1, 0}, {0, 1, 1, 0});
  EXPECT_EQ(perfect.brier, 0);
  EXPECT_EQ(perfect.ece, 0);
  for (const Sample& sample : samples()) {
    const Calibration found = calibration(sample.probabilities, sample.labels, 7);
    std::int64_t n = 0;
    for (const CalibrationBin& bin : found.bins) {
      EXPECT_GT(bin.n, 0);
      EXPECT_GE(bin.mean_predicted, bin.from - 1e-15);
      EXPECT_LE(bin.mean_predicted, bin.to + 1e-15);
      n += bin.n;
    }
    EXPECT_EQ(n, std::ssize(sample.labels));
  }
  expect_error<NumericsError>([] { (void)calibration({1.5}, {1}); }, ExitCode::kDiverged, {"1.5"});
}

TEST(Bootstrap, LeavesOutResamplesInWhichAValueIsNotDefined) {
  // The threshold finds one study; a resample without it predicts nothing, and has no ppv.
  const BootstrapIntervals found = bootstrap_by_patient({0.9, 0.1, 0.2, 0.3}, {1, 0, 0, 1},
                                                        {"a", "b", "c", "d"}, 0.5, 200, 4);
  EXPECT_EQ(found.ppv, (std::array<double, 2>{1, 1}));
  const BootstrapIntervals never = bootstrap_by_patient({0.9, 0.1, 0.2, 0.3}, {1, 0, 0, 1},
                                                        {"a", "b", "c", "d"}, 2, 50, 4);
  EXPECT_TRUE(std::isnan(never.ppv[0]));
  EXPECT_FALSE(std::isnan(never.npv[0]));
}

}  // namespace
}  // namespace triphase::trainer
