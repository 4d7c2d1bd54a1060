// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/random.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

using test::expect_error;
using test::load_golden_json;

struct Sample {
  std::vector<double> scores;
  std::vector<std::int8_t> labels;
  std::vector<std::string> patients;
};

/// `shift` apart; `levels` > 0 rounds scores so that ties are many.
Sample draw(std::uint64_t seed, std::size_t n, double prevalence, double shift, int levels = 0) {
  KeyedRandom random{seed, 99};
  Sample sample;
  for (std::size_t i = 0; i < n; ++i) {
    const bool positive = i == 0 || (i != 1 && random.chance(prevalence));
    double score = random.normal(positive ? shift : 0, 1);
    if (levels > 0) score = std::round(score * levels) / levels;
    sample.scores.push_back(score);
    sample.labels.push_back(positive ? 1 : 0);
    sample.patients.push_back(str("p", i));
  }
  return sample;
}

/// The definition: pairs in the right order, ties one half.
double auc_by_pairs(const Sample& sample) {
  double wins = 0;
  double pairs = 0;
  for (std::size_t i = 0; i < sample.scores.size(); ++i)
    for (std::size_t j = 0; j < sample.scores.size(); ++j)
      if (sample.labels[i] == 1 && sample.labels[j] == 0) {
        pairs += 1;
        wins += sample.scores[i] > sample.scores[j]   ? 1
                : sample.scores[i] < sample.scores[j] ? 0
                                                      : 0.5;
      }
  return wins / pairs;
}

double golden_number(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

void expect_same_number(double actual, double expected, const std::string& what) {
  if (std::isnan(expected))
    EXPECT_TRUE(std::isnan(actual)) << what << " is " << actual;
  else
    EXPECT_NEAR(actual, expected, 1e-14) << what;  // quotients of whole numbers below 2^53
}

TEST(RocAuc, EqualsTheCountOfPairsWithTiesOrWithout) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Sample sample = draw(seed, 2 + seed * 3, 0.3, 0.8, static_cast<int>(seed % 4));
    EXPECT_NEAR(roc_auc(sample.scores, sample.labels), auc_by_pairs(sample), 1e-14) << seed;
  }
}

TEST(RocAuc, DoesNotChangeUnderMonotoneMapsOrReordering) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Sample sample = draw(seed, 60, 0.4, 0.5, 2);
    Sample mapped;
    for (const std::int64_t i : keyed_permutation(60, KeyedRandom{seed})) {
      const double score = sample.scores[static_cast<std::size_t>(i)];
      mapped.scores.push_back(std::exp(3 * score) - 7);
      mapped.labels.push_back(sample.labels[static_cast<std::size_t>(i)]);
    }
    EXPECT_EQ(roc_auc(mapped.scores, mapped.labels), roc_auc(sample.scores, sample.labels));
  }
}

TEST(RocAuc, OfNegatedScoresOrSwappedLabelsIsTheComplement) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Sample sample = draw(seed, 51, 0.3, 1, 1);
    std::vector<double> negated;
    std::vector<std::int8_t> swapped;
    for (const double score : sample.scores) negated.push_back(-score);
    for (const std::int8_t label : sample.labels) swapped.push_back(label == 1 ? 0 : 1);
    const double auc = roc_auc(sample.scores, sample.labels);
    EXPECT_NEAR(roc_auc(negated, sample.labels), 1 - auc, 1e-14);
    EXPECT_NEAR(roc_auc(sample.scores, swapped), 1 - auc, 1e-14);
  }
}

TEST(RocAuc, RefusesScoresThatAreNotFiniteAndUnknownLabels) {
  expect_error<NumericsError>(
      [] {
        (void)roc_auc({0.1, std::nan("")}, {0, 1});
      },
      ExitCode::kDiverged, {"nan"});
  expect_error<InternalError>(
      [] {
        (void)roc_auc({0.1, 0.2}, {0, -1});
      },
      ExitCode::kInternal, {"-1"});
  expect_error<InternalError>(
      [] {
        (void)roc_auc({0.1}, {0, 1});
      },
      ExitCode::kInternal, {"1 scores", "2 labels"});
}

TEST(ChooseThreshold, IsTheBestOfAllObservedScoresAndTheHighestOfEquals) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const Sample sample = draw(seed, 40, 0.35, 0.7, static_cast<int>(seed % 3));
    for (const char* rule : {"youden", "f1"}) {
      const auto merit = [&](double threshold) {
        const ThresholdMetrics at = metrics_at(threshold, sample.scores, sample.labels);
        return std::string(rule) == "f1" ? at.f1 : at.sensitivity + at.specificity - 1;
      };
      const double chosen = choose_threshold(rule, sample.scores, sample.labels);
      EXPECT_NE(std::find(sample.scores.begin(), sample.scores.end(), chosen), sample.scores.end());
      for (const double other : sample.scores) {
        EXPECT_LE(merit(other), merit(chosen) + 1e-12);
        if (other > chosen) {
          EXPECT_LT(merit(other), merit(chosen) - 1e-12);
        }
      }
    }
  }
}

TEST(ChooseThreshold, RefusesOneClassAndUnknownRules) {
  expect_error<DataError>(
      [] {
        (void)choose_threshold("youden", {0.1, 0.2}, {1, 1});
      },
      ExitCode::kBadData, {"2 positive", "0 negative"});
  expect_error<ConfigError>(
      [] {
        (void)choose_threshold("best", {0.1, 0.2}, {1, 0});
      },
      ExitCode::kUsage, {"best", "youden"});
}

TEST(MetricsGolden, AgreesWithScikitLearn) {
  const Json golden = load_golden_json("metrics");
  ASSERT_GE(golden.at("scores").size(), 15u);
  for (const auto& [name, sample] : golden.at("scores").items()) {
    const auto scores = sample.at("scores").get<std::vector<double>>();
    const auto labels = sample.at("labels").get<std::vector<std::int8_t>>();
    expect_same_number(roc_auc(scores, labels), golden_number(sample.at("auc")), name + " auc");
    for (const Json& at : sample.at("at")) {
      const ThresholdMetrics metrics = metrics_at(at.at("threshold").get<double>(), scores, labels);
      expect_same_number(metrics.f1, golden_number(at.at("f1")), name + " f1");
      expect_same_number(metrics.sensitivity, golden_number(at.at("sensitivity")),
                         name + " sensitivity");
      expect_same_number(metrics.specificity, golden_number(at.at("specificity")),
                         name + " specificity");
    }
    for (const char* rule : {"youden", "f1"})
      if (sample.contains(rule)) {
        EXPECT_EQ(choose_threshold(rule, scores, labels),
                  sample.at(rule).at("threshold").get<double>())
            << name << " " << rule;
      }
  }
}

TEST(Bootstrap, AgreesWithScikitLearnOnTheSameResamples) {
  const Json golden = load_golden_json("bootstrap");
  ASSERT_GE(golden.at("cases").size(), 4u);
  for (const auto& [name, sample] : golden.at("cases").items()) {
    const BootstrapIntervals own = bootstrap_by_patient(
        sample.at("scores").get<std::vector<double>>(),
        sample.at("labels").get<std::vector<std::int8_t>>(),
        sample.at("patients").get<std::vector<std::string>>(), sample.at("threshold").get<double>(),
        sample.at("num_samples").get<std::int64_t>(), sample.at("seed").get<std::uint64_t>());
    const Json& expected = sample.at("intervals");
    for (std::size_t end : {0u, 1u}) {  // quotients and one interpolation: a few roundings
      EXPECT_NEAR(own.auc[end], expected.at("auc")[end].get<double>(), 1e-14) << name;
      EXPECT_NEAR(own.f1[end], expected.at("f1")[end].get<double>(), 1e-14) << name;
      EXPECT_NEAR(own.sensitivity[end], expected.at("sensitivity")[end].get<double>(), 1e-14);
      EXPECT_NEAR(own.specificity[end], expected.at("specificity")[end].get<double>(), 1e-14);
      EXPECT_NEAR(own.ppv[end], expected.at("ppv")[end].get<double>(), 1e-14);
      EXPECT_NEAR(own.npv[end], expected.at("npv")[end].get<double>(), 1e-14);
      EXPECT_NEAR(own.balanced_accuracy[end], expected.at("balanced_accuracy")[end].get<double>(),
                  1e-14);
      EXPECT_NEAR(own.average_precision[end], expected.at("average_precision")[end].get<double>(),
                  1e-13);
      const auto expect_band = [&](const CurveBand& band, const char* curve) {
        for (std::size_t j = 0; j <= 5; ++j)  // every tenth point
          EXPECT_NEAR((end == 0 ? band.low : band.high)[10 * j],
                      expected.at(curve)[end][j].get<double>(), 1e-13)
              << name << " " << curve << " at " << j;
      };
      expect_band(own.roc, "roc");
      expect_band(own.precision_recall, "precision_recall");
    }
  }
}

TEST(Bootstrap, IsKeyedByTheSeedAndHoldsTheEstimate) {
  const Sample sample = draw(3, 120, 0.4, 1);
  const auto run = [&](std::uint64_t seed) {
    return bootstrap_by_patient(sample.scores, sample.labels, sample.patients, 0.5, 300, seed);
  };
  EXPECT_EQ(run(1).auc, run(1).auc);
  EXPECT_EQ(run(1).specificity, run(1).specificity);
  EXPECT_NE(run(1).auc, run(2).auc);
  const double auc = roc_auc(sample.scores, sample.labels);
  const ThresholdMetrics at = metrics_at(0.5, sample.scores, sample.labels);
  const BootstrapIntervals intervals = run(1);
  const auto expect_inside = [](double value, const std::array<double, 2>& interval) {
    EXPECT_LT(interval[0], value);
    EXPECT_GT(interval[1], value);
  };
  expect_inside(auc, intervals.auc);
  expect_inside(at.f1, intervals.f1);
  expect_inside(at.sensitivity, intervals.sensitivity);
  expect_inside(at.specificity, intervals.specificity);
}

// The true AUC of two normals one apart is Phi(1/sqrt 2). 400 cohorts: the standard error of a
// coverage of 0.95 is 0.011, and percentile intervals are known to cover slightly too little at
// this size.
TEST(Bootstrap, IntervalsCoverTheTruthAboutNineteenTimesInTwenty) {
  const double truth = 0.5 * std::erfc(-(1 / std::sqrt(2.0)) / std::sqrt(2.0));
  int covered = 0;
  for (std::uint64_t cohort = 0; cohort < 400; ++cohort) {
    const Sample sample = draw(1000 + cohort, 100, 0.5, 1);
    const auto interval =
        bootstrap_by_patient(sample.scores, sample.labels, sample.patients, 0, 200, cohort).auc;
    covered += interval[0] <= truth && truth <= interval[1] ? 1 : 0;
  }
  EXPECT_GE(covered, 360);
  EXPECT_LE(covered, 396);
}

// Each patient's studies repeated k times change no patient-wise interval; by studies they would
// shrink by sqrt k.
TEST(Bootstrap, ResamplesWholePatients) {
  const Sample once = draw(5, 80, 0.4, 1);
  Sample repeated;
  for (int k = 0; k < 4; ++k) {
    repeated.scores.insert(repeated.scores.end(), once.scores.begin(), once.scores.end());
    repeated.labels.insert(repeated.labels.end(), once.labels.begin(), once.labels.end());
    repeated.patients.insert(repeated.patients.end(), once.patients.begin(), once.patients.end());
  }
  const auto by_patient =
      bootstrap_by_patient(repeated.scores, repeated.labels, repeated.patients, 0.3, 500, 9);
  const auto single = bootstrap_by_patient(once.scores, once.labels, once.patients, 0.3, 500, 9);
  for (std::size_t end : {0u, 1u}) {
    EXPECT_NEAR(by_patient.auc[end], single.auc[end], 1e-14);
    EXPECT_NEAR(by_patient.f1[end], single.f1[end], 1e-14);
  }
  for (std::size_t i = 0; i < repeated.patients.size(); ++i) repeated.patients[i] = str("q", i);
  const auto by_study =
      bootstrap_by_patient(repeated.scores, repeated.labels, repeated.patients, 0.3, 500, 9);
  EXPECT_LT(by_study.auc[1] - by_study.auc[0], 0.7 * (single.auc[1] - single.auc[0]));
}

TEST(Bootstrap, ResamplesOfOneClassAreDrawnAgain) {
  // One positive patient of three: four resamples in ten hold no positive one.
  const auto intervals =
      bootstrap_by_patient({0.9, 0.1, 0.2}, {1, 0, 0}, {"a", "b", "c"}, 0.5, 200, 4);
  EXPECT_EQ(intervals.auc, (std::array<double, 2>{1, 1}));
  EXPECT_EQ(intervals.sensitivity, (std::array<double, 2>{1, 1}));
  expect_error<DataError>([] { (void)bootstrap_by_patient({0.9}, {1}, {"a"}, 0.5, 10, 4); },
                          ExitCode::kBadData, {"1 of 1"});
}

TEST(LinearProbe, AgreesWithScikitLearn) {
  const Json golden = load_golden_json("metrics");
  ASSERT_GE(golden.at("probe").size(), 8u);
  for (const auto& [name, sample] : golden.at("probe").items()) {
    const auto features = sample.at("features").get<std::vector<double>>();
    const auto labels = sample.at("labels").get<std::vector<std::int8_t>>();
    const auto d = sample.at("d").get<std::int64_t>();
    const LinearProbe probe = fit_linear_probe(features, d, labels, sample.at("c").get<double>());
    const auto weights = sample.at("weights").get<std::vector<double>>();
    double largest = 0;
    for (const double weight : weights) largest = std::max(largest, std::abs(weight));
    // The reference's own two solvers differ by up to newton_difference (below 1e-6).
    const double tolerance = 1e-6;
    for (std::size_t j = 0; j < weights.size(); ++j)
      EXPECT_NEAR(probe.weights[j], weights[j], tolerance * largest) << name << " weight " << j;
    const auto scores = sample.at("scores").get<std::vector<double>>();
    const std::vector<double> own = probe_scores(probe, features, d);
    for (std::size_t i = 0; i < scores.size(); ++i)
      EXPECT_NEAR(own[i], scores[i], tolerance * std::max(1.0, std::abs(scores[i])))
          << name << " score " << i;
  }
}

TEST(LinearProbe, DoesNotDependOnTheUnitsOfAFeature) {
  KeyedRandom random{7};
  std::vector<double> features;
  std::vector<double> scaled;
  std::vector<std::int8_t> labels;
  for (int i = 0; i < 50; ++i) {
    const double x = random.normal();
    const double y = random.normal();
    labels.push_back(x + 0.5 * y + random.normal() > 0 ? 1 : 0);
    features.insert(features.end(), {x, y});
    scaled.insert(scaled.end(), {1e6 * x + 3, 1e-6 * y - 1});
  }
  const auto a = probe_scores(fit_linear_probe(features, 2, labels, 1), features, 2);
  const auto b = probe_scores(fit_linear_probe(scaled, 2, labels, 1), scaled, 2);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6);
}

TEST(LinearProbe, FitsMoreFeaturesThanSamplesAndIgnoresConstantOnes) {
  KeyedRandom random{8};
  constexpr std::int64_t kFeatures = 300;
  std::vector<double> features;
  std::vector<std::int8_t> labels;
  for (int i = 0; i < 60; ++i) {
    labels.push_back(static_cast<std::int8_t>(i % 2));
    for (std::int64_t j = 0; j < kFeatures; ++j)
      features.push_back(j == 5 ? 2.5 : random.normal(j < 3 ? i % 2 : 0, 1));
  }
  const LinearProbe probe = fit_linear_probe(features, kFeatures, labels, 0.01);
  EXPECT_EQ(probe.weights[5], 0);
  EXPECT_GT(roc_auc(probe_scores(probe, features, kFeatures), labels), 0.99);
}

TEST(LinearProbe, RefusesOneClass) {
  expect_error<DataError>(
      [] {
        (void)fit_linear_probe({1, 2}, 1, {1, 1}, 1);
      },
      ExitCode::kBadData, {"2 of 2"});
}

}  // namespace
}  // namespace triphase::trainer
