// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics.hpp"

#include "base/error.hpp"
#include "base/random.hpp"
#include "trainer/metrics_curves.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace triphase::trainer {
namespace {

constexpr std::uint64_t kBootstrapKey =
    0x626f6f74;  // "boot": apart from every other use of the seed

/// The patient of each sample, numbered as they come.
std::vector<std::size_t> number_patients(const std::vector<std::string>& patient_ids,
                                         std::size_t& num_patients) {
  std::map<std::string, std::size_t> patients;
  std::vector<std::size_t> patient_of;
  for (const std::string& id : patient_ids)
    patient_of.push_back(patients.emplace(id, patients.size()).first->second);
  num_patients = patients.size();
  return patient_of;
}

/// What a threshold makes of a resample.
ThresholdMetrics metrics_of(const std::vector<bool>& predicted, const std::vector<std::int8_t>& labels,
                            const std::vector<std::int64_t>& weights) {
  std::int64_t counts[2][2] = {};  // label, prediction
  for (std::size_t i = 0; i < labels.size(); ++i)
    counts[labels[i] == 1 ? 1 : 0][predicted[i] ? 1 : 0] += weights[i];
  const auto tp = static_cast<double>(counts[1][1]);
  const auto fp = static_cast<double>(counts[0][1]);
  const auto p = static_cast<double>(counts[1][0] + counts[1][1]);
  const auto n = static_cast<double>(counts[0][0] + counts[0][1]);
  return {.f1 = tp == 0 ? 0 : 2 * tp / (tp + fp + p),
          .sensitivity = tp / p,
          .specificity = (n - fp) / n,
          .ppv = tp / (tp + fp),
          .npv = (n - fp) / (p - tp + n - fp),
          .balanced_accuracy = (tp / p + (n - fp) / n) / 2};
}

/// Linear between order statistics, as numpy.percentile's default.
std::array<double, 2> percentile_interval(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });  // undefined in that resample
  if (values.empty())
    return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
  std::sort(values.begin(), values.end());
  const auto at = [&](double quantile) {
    const double place = quantile * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(std::floor(place));
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
  };
  return {at(0.025), at(0.975)};
}

/// @param curves [resample][point]
CurveBand band_of(const std::vector<std::vector<double>>& curves) {
  CurveBand band;
  for (std::size_t point = 0; point < curves.front().size(); ++point) {
    std::vector<double> values;
    for (const std::vector<double>& curve : curves) values.push_back(curve[point]);
    const auto [low, high] = percentile_interval(std::move(values));
    band.low.push_back(low);
    band.high.push_back(high);
  }
  return band;
}

}  // namespace

BootstrapIntervals bootstrap_by_patient(const std::vector<double>& scores,
                                        const std::vector<std::int8_t>& labels,
                                        const std::vector<std::string>& patient_ids,
                                        double threshold, std::int64_t num_samples,
                                        std::uint64_t seed) {
  TRIPHASE_CHECK(InternalError,
                 scores.size() == labels.size() && scores.size() == patient_ids.size(),
                 "the bootstrap got ", scores.size(), " scores, ", labels.size(), " labels and ",
                 patient_ids.size(), " patients");
  TRIPHASE_CHECK(ConfigError, num_samples > 0, "evaluate.bootstrap_samples must be above 0, is ",
                 num_samples);
  const auto positives = std::count(labels.begin(), labels.end(), std::int8_t{1});
  TRIPHASE_CHECK(DataError, positives > 0 && positives < static_cast<std::int64_t>(labels.size()),
                 "an interval needs both classes; ", positives, " of ", labels.size(),
                 " samples are positive");
  std::size_t num_patients = 0;
  const std::vector<std::size_t> patient_of = number_patients(patient_ids, num_patients);
  const RankedSamples ranked = rank_samples(scores);
  std::vector<bool> predicted;
  for (const double score : scores) predicted.push_back(score >= threshold);

  std::map<std::string, std::vector<double>> found;
  std::vector<std::vector<double>> roc;
  std::vector<std::vector<double>> precision_recall;
  std::vector<std::int64_t> draws(num_patients);
  std::vector<std::int64_t> weights(scores.size());
  for (std::int64_t sample = 0; sample < num_samples; ++sample) {
    KeyedRandom random{seed, kBootstrapKey, static_cast<std::uint64_t>(sample)};
    Staircase stairs;
    do {
      std::fill(draws.begin(), draws.end(), 0);
      for (std::size_t i = 0; i < draws.size(); ++i)
        draws[static_cast<std::size_t>(random.below(draws.size()))] += 1;
      for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = draws[patient_of[i]];
      stairs = climb(ranked, labels, weights);
    } while (stairs.positive() == 0 || stairs.negative() == 0);
    const ThresholdMetrics at = metrics_of(predicted, labels, weights);
    found["auc"].push_back(auc_of(stairs));
    found["average_precision"].push_back(average_precision_of(stairs));
    found["f1"].push_back(at.f1);
    found["sensitivity"].push_back(at.sensitivity);
    found["specificity"].push_back(at.specificity);
    found["ppv"].push_back(at.ppv);
    found["npv"].push_back(at.npv);
    found["balanced_accuracy"].push_back(at.balanced_accuracy);
    roc.push_back(roc_curve_of(stairs));
    precision_recall.push_back(precision_recall_curve_of(stairs));
  }
  const auto interval = [&](const char* key) { return percentile_interval(std::move(found.at(key))); };
  return {.auc = interval("auc"),
          .average_precision = interval("average_precision"),
          .f1 = interval("f1"),
          .sensitivity = interval("sensitivity"),
          .specificity = interval("specificity"),
          .ppv = interval("ppv"),
          .npv = interval("npv"),
          .balanced_accuracy = interval("balanced_accuracy"),
          .roc = band_of(roc),
          .precision_recall = band_of(precision_recall)};
}

}  // namespace triphase::trainer
