// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics.hpp"

#include "base/error.hpp"

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
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  // Twice the number of (positive, negative) pairs in the right order, ties counted once: a whole
  // number.
  std::int64_t twice_wins = 0;
  std::int64_t negatives_below = 0;
  std::int64_t positives = 0;
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    std::int64_t tied_positives = 0;
    std::int64_t tied_negatives = 0;
    for (; last < order.size() && !(scores[order[first]] < scores[order[last]]); ++last)
      (labels[order[last]] == 1 ? tied_positives : tied_negatives) += 1;
    twice_wins += tied_positives * (2 * negatives_below + tied_negatives);
    negatives_below += tied_negatives;
    positives += tied_positives;
    first = last;
  }
  if (positives == 0 || negatives_below == 0) return kNaN;
  return static_cast<double>(twice_wins) / 2.0 / static_cast<double>(positives) /
         static_cast<double>(negatives_below);
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

}  // namespace triphase::trainer
