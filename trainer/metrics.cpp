// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics.hpp"

#include "base/error.hpp"
#include "trainer/metrics_curves.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void check_inputs(const std::vector<double>& scores, const std::vector<std::int8_t>& labels) {
  TRIPHASE_CHECK(InternalError, scores.size() == labels.size(), "metrics got ", scores.size(),
                 " scores and ", labels.size(), " labels");
  for (const std::int8_t label : labels)
    TRIPHASE_CHECK(InternalError, label == 0 || label == 1, "metrics got the label ", int{label},
                   "; unknown labels must be left out by the caller");
  for (const double score : scores)
    TRIPHASE_CHECK(NumericsError, std::isfinite(score), "a score is ", score,
                   ", so nothing can be ranked. Look for weights that are not finite.");
}

struct Counts {
  std::int64_t true_positive = 0;
  std::int64_t false_positive = 0;
  std::int64_t positive = 0;
  std::int64_t negative = 0;
};

ThresholdMetrics metrics_of(const Counts& counts) {
  const auto tp = static_cast<double>(counts.true_positive);
  const auto fp = static_cast<double>(counts.false_positive);
  const auto p = static_cast<double>(counts.positive);
  const auto n = static_cast<double>(counts.negative);
  ThresholdMetrics result;
  result.f1 = counts.true_positive == 0 ? 0 : 2 * tp / (tp + fp + p);
  result.sensitivity = counts.positive == 0 ? kNaN : tp / p;
  result.specificity = counts.negative == 0 ? kNaN : (n - fp) / n;
  result.ppv = counts.true_positive + counts.false_positive == 0 ? kNaN : tp / (tp + fp);
  const double predicted_negative = p - tp + n - fp;
  result.npv = predicted_negative > 0 ? (n - fp) / predicted_negative : kNaN;
  result.balanced_accuracy = (result.sensitivity + result.specificity) / 2;
  return result;
}

/// Numerator and denominator of what a rule maximises; whole numbers, so that ties are exact.
std::pair<std::int64_t, std::int64_t> merit(const std::string& rule, const Counts& counts) {
  if (rule == "youden")  // J = tp/P - fp/N, over the common denominator P*N
    return {counts.true_positive * counts.negative - counts.false_positive * counts.positive, 1};
  return {2 * counts.true_positive, counts.true_positive + counts.false_positive + counts.positive};
}

}  // namespace

double roc_auc(const std::vector<double>& scores, const std::vector<std::int8_t>& labels) {
  check_inputs(scores, labels);
  const auto positive = std::count(labels.begin(), labels.end(), std::int8_t{1});
  if (positive == 0 || positive == std::ssize(labels)) return kNaN;
  return auc_of(climb(rank_samples(scores), labels));
}

double average_precision(const std::vector<double>& scores,
                         const std::vector<std::int8_t>& labels) {
  check_inputs(scores, labels);
  if (std::count(labels.begin(), labels.end(), std::int8_t{1}) == 0) return kNaN;
  return average_precision_of(climb(rank_samples(scores), labels));
}

ThresholdMetrics metrics_at(double threshold, const std::vector<double>& scores,
                            const std::vector<std::int8_t>& labels) {
  check_inputs(scores, labels);
  Counts counts;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    (labels[i] == 1 ? counts.positive : counts.negative) += 1;
    if (scores[i] < threshold) continue;
    (labels[i] == 1 ? counts.true_positive : counts.false_positive) += 1;
  }
  return metrics_of(counts);
}

double choose_threshold(const std::string& rule, const std::vector<double>& scores,
                        const std::vector<std::int8_t>& labels) {
  check_inputs(scores, labels);
  TRIPHASE_CHECK(ConfigError, rule == "youden" || rule == "f1", "the threshold rule '", rule,
                 "' is unknown. Use 'youden' or 'f1'.");
  Counts counts;
  for (const std::int8_t label : labels) (label == 1 ? counts.positive : counts.negative) += 1;
  TRIPHASE_CHECK(DataError, counts.positive > 0 && counts.negative > 0,
                 "a threshold needs both classes; there are ", counts.positive, " positive and ",
                 counts.negative, " negative samples");
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  double best = 0;
  std::optional<std::pair<std::int64_t, std::int64_t>> best_merit;
  for (std::size_t i = 0; i < order.size(); ++i) {
    (labels[order[i]] == 1 ? counts.true_positive : counts.false_positive) += 1;
    if (i + 1 < order.size() && !(scores[order[i + 1]] < scores[order[i]]))
      continue;  // a tie goes on
    const auto here = merit(rule, counts);
    if (best_merit && here.first * best_merit->second <= best_merit->first * here.second) continue;
    best = scores[order[i]];
    best_merit = here;
  }
  return best;
}

Calibration calibration(const std::vector<double>& probabilities,
                        const std::vector<std::int8_t>& labels, int num_bins) {
  check_inputs(probabilities, labels);
  TRIPHASE_CHECK(InternalError, !labels.empty() && num_bins > 0, "calibration of ", labels.size(),
                 " samples in ", num_bins, " bins");
  std::vector<CalibrationBin> bins(static_cast<std::size_t>(num_bins));
  Calibration result;
  const auto n = static_cast<double>(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double p = probabilities[i];
    TRIPHASE_CHECK(NumericsError, p >= 0 && p <= 1, "a probability is ", p);
    const auto at = std::min(static_cast<std::size_t>(p * num_bins), bins.size() - 1);
    ++bins[at].n;
    bins[at].mean_predicted += p;
    bins[at].fraction_positive += labels[i];
    result.brier += (p - labels[i]) * (p - labels[i]) / n;
  }
  for (std::size_t b = 0; b < bins.size(); ++b) {
    CalibrationBin& bin = bins[b];
    if (bin.n == 0) continue;
    bin.from = static_cast<double>(b) / num_bins;
    bin.to = static_cast<double>(b + 1) / num_bins;
    bin.mean_predicted /= static_cast<double>(bin.n);
    bin.fraction_positive /= static_cast<double>(bin.n);
    result.ece += static_cast<double>(bin.n) / n * std::abs(bin.mean_predicted - bin.fraction_positive);
    result.bins.push_back(bin);
  }
  return result;
}

}  // namespace triphase::trainer
