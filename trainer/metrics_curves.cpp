// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics_curves.hpp"

#include <algorithm>
#include <numeric>

namespace triphase::trainer {
namespace {

constexpr std::int64_t kIntervals = kCurvePoints - 1;

double ratio(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::vector<double> curve_grid() {
  std::vector<double> grid;
  for (std::int64_t j = 0; j <= kIntervals; ++j) grid.push_back(ratio(j, kIntervals));
  return grid;
}

RankedSamples rank_samples(const std::vector<double>& scores) {
  RankedSamples ranked;
  ranked.order.resize(scores.size());
  std::iota(ranked.order.begin(), ranked.order.end(), std::size_t{0});
  std::stable_sort(ranked.order.begin(), ranked.order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  for (std::size_t i = 0; i < scores.size(); ++i)
    ranked.ends_tie.push_back(i + 1 == scores.size() ||
                              scores[ranked.order[i]] > scores[ranked.order[i + 1]]);
  return ranked;
}

Staircase climb(const RankedSamples& ranked, const std::vector<std::int8_t>& labels,
                const std::vector<std::int64_t>& weights) {
  Staircase stairs;
  std::int64_t positive = 0;
  std::int64_t negative = 0;
  for (std::size_t i = 0; i < ranked.order.size(); ++i) {
    const std::size_t sample = ranked.order[i];
    (labels[sample] == 1 ? positive : negative) += weights.empty() ? 1 : weights[sample];
    if (!ranked.ends_tie[i]) continue;
    const bool is_new = stairs.true_positives.empty()
                            ? positive + negative > 0
                            : positive > stairs.positive() || negative > stairs.negative();
    if (!is_new) continue;  // no sample of this score counts
    stairs.true_positives.push_back(positive);
    stairs.false_positives.push_back(negative);
  }
  return stairs;
}

double auc_of(const Staircase& stairs) {
  // Twice the number of (positive, negative) pairs in the right order, ties counted once: whole numbers.
  std::int64_t twice_wins = 0;
  std::int64_t tp = 0;
  std::int64_t fp = 0;
  for (std::size_t k = 0; k < stairs.true_positives.size(); ++k) {
    twice_wins += (stairs.false_positives[k] - fp) * (stairs.true_positives[k] + tp);
    tp = stairs.true_positives[k];
    fp = stairs.false_positives[k];
  }
  return static_cast<double>(twice_wins) / 2.0 / static_cast<double>(tp) / static_cast<double>(fp);
}

double average_precision_of(const Staircase& stairs) {
  double sum = 0;
  std::int64_t before = 0;
  for (std::size_t k = 0; k < stairs.true_positives.size(); ++k) {
    const std::int64_t tp = stairs.true_positives[k];
    if (tp > before)
      sum += ratio(tp - before, stairs.positive()) * ratio(tp, tp + stairs.false_positives[k]);
    before = tp;
  }
  return sum;
}

std::vector<double> roc_curve_of(const Staircase& stairs) {
  std::vector<double> curve;
  std::size_t next = 0;  // the first step beyond the grid's point
  for (std::int64_t j = 0; j <= kIntervals; ++j) {
    // 1 - specificity fp / N is at most j / kIntervals; in whole numbers, so that ends meet.
    const std::int64_t limit = j * stairs.negative();
    while (next < stairs.false_positives.size() && stairs.false_positives[next] * kIntervals <= limit)
      ++next;
    const std::int64_t tp = next == 0 ? 0 : stairs.true_positives[next - 1];
    const std::int64_t fp = next == 0 ? 0 : stairs.false_positives[next - 1];
    double height = static_cast<double>(tp);
    if (next < stairs.false_positives.size())
      height += ratio(limit - fp * kIntervals, (stairs.false_positives[next] - fp) * kIntervals) *
                static_cast<double>(stairs.true_positives[next] - tp);
    curve.push_back(height / static_cast<double>(stairs.positive()));
  }
  return curve;
}

std::vector<double> precision_recall_curve_of(const Staircase& stairs) {
  std::vector<double> curve;
  std::size_t k = 0;
  for (std::int64_t j = 0; j <= kIntervals; ++j) {
    while (stairs.true_positives[k] * kIntervals < j * stairs.positive()) ++k;
    curve.push_back(
        ratio(stairs.true_positives[k], stairs.true_positives[k] + stairs.false_positives[k]));
  }
  return curve;
}

}  // namespace triphase::trainer
