// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics.hpp"

#include "base/error.hpp"
#include "base/random.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace triphase::trainer {
namespace {

constexpr std::uint64_t kBootstrapKey =
    0x626f6f74;  // "boot": apart from every other use of the seed

/// Samples in rising order of score: sorted once, so that a resample is one pass over weights.
struct SortedSamples {
  std::vector<std::size_t> patient;  ///< of the sample at this place
  std::vector<bool> positive;
  std::vector<bool> ends_tie;   ///< the next sample has a higher score, or there is none
  std::vector<bool> predicted;  ///< score >= threshold
  std::size_t num_patients = 0;
};

SortedSamples sort_samples(const std::vector<double>& scores,
                           const std::vector<std::int8_t>& labels,
                           const std::vector<std::string>& patient_ids, double threshold) {
  std::map<std::string, std::size_t> patients;
  std::vector<std::size_t> patient_of;
  for (const std::string& id : patient_ids)
    patient_of.push_back(patients.emplace(id, patients.size()).first->second);
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  SortedSamples sorted;
  sorted.num_patients = patients.size();
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t sample = order[i];
    sorted.patient.push_back(patient_of[sample]);
    sorted.positive.push_back(labels[sample] == 1);
    sorted.predicted.push_back(scores[sample] >= threshold);
    sorted.ends_tie.push_back(i + 1 == order.size() || scores[sample] < scores[order[i + 1]]);
  }
  return sorted;
}

struct Resample {
  std::int64_t twice_wins = 0;
  std::int64_t positive = 0;
  std::int64_t negative = 0;
  std::int64_t true_positive = 0;
  std::int64_t false_positive = 0;
};

Resample count(const SortedSamples& sorted, const std::vector<std::int64_t>& draws) {
  Resample result;
  std::int64_t tied_positives = 0;
  std::int64_t tied_negatives = 0;
  for (std::size_t i = 0; i < sorted.patient.size(); ++i) {
    const std::int64_t weight = draws[sorted.patient[i]];
    (sorted.positive[i] ? tied_positives : tied_negatives) += weight;
    if (sorted.predicted[i])
      (sorted.positive[i] ? result.true_positive : result.false_positive) += weight;
    if (!sorted.ends_tie[i]) continue;
    result.twice_wins += tied_positives * (2 * result.negative + tied_negatives);
    result.positive += tied_positives;
    result.negative += tied_negatives;
    tied_positives = tied_negatives = 0;
  }
  return result;
}

/// Linear between order statistics, as numpy.percentile's default.
std::array<double, 2> percentile_interval(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double quantile) {
    const double place = quantile * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(std::floor(place));
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
  };
  return {at(0.025), at(0.975)};
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
  const SortedSamples sorted = sort_samples(scores, labels, patient_ids, threshold);
  std::vector<double> auc;
  std::vector<double> f1;
  std::vector<double> sensitivity;
  std::vector<double> specificity;
  std::vector<std::int64_t> draws(sorted.num_patients);
  for (std::int64_t sample = 0; sample < num_samples; ++sample) {
    KeyedRandom random{seed, kBootstrapKey, static_cast<std::uint64_t>(sample)};
    Resample drawn;
    do {
      std::fill(draws.begin(), draws.end(), 0);
      for (std::size_t i = 0; i < draws.size(); ++i)
        draws[static_cast<std::size_t>(random.below(draws.size()))] += 1;
      drawn = count(sorted, draws);
    } while (drawn.positive == 0 || drawn.negative == 0);
    const auto p = static_cast<double>(drawn.positive);
    const auto n = static_cast<double>(drawn.negative);
    const auto tp = static_cast<double>(drawn.true_positive);
    const auto fp = static_cast<double>(drawn.false_positive);
    auc.push_back(static_cast<double>(drawn.twice_wins) / 2.0 / p / n);
    f1.push_back(drawn.true_positive == 0 ? 0 : 2 * tp / (tp + fp + p));
    sensitivity.push_back(tp / p);
    specificity.push_back((n - fp) / n);
  }
  return {percentile_interval(std::move(auc)), percentile_interval(std::move(f1)),
          percentile_interval(std::move(sensitivity)), percentile_interval(std::move(specificity))};
}

}  // namespace triphase::trainer
