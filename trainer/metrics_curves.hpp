// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace triphase::trainer {

/// Points at which curves are given: 0, 0.02 ... 1.
inline constexpr int kCurvePoints = 51;
[[nodiscard]] std::vector<double> curve_grid();

/// Samples by falling score; of equal scores the last one ends their tie.
struct RankedSamples {
  std::vector<std::size_t> order;
  std::vector<bool> ends_tie;
};
[[nodiscard]] RankedSamples rank_samples(const std::vector<double>& scores);

/// What lies at or above each distinct score, the highest first: cumulative, so the last are all.
struct Staircase {
  std::vector<std::int64_t> true_positives;
  std::vector<std::int64_t> false_positives;
  [[nodiscard]] std::int64_t positive() const { return true_positives.back(); }
  [[nodiscard]] std::int64_t negative() const { return false_positives.back(); }
};
/// @param weights how often each sample counts; empty: once. Not all of them 0
[[nodiscard]] Staircase climb(const RankedSamples& ranked, const std::vector<std::int8_t>& labels,
                              const std::vector<std::int64_t>& weights = {});

/// Both need both classes (average precision a positive); see metrics.hpp for what they are.
[[nodiscard]] double auc_of(const Staircase& stairs);
[[nodiscard]] double average_precision_of(const Staircase& stairs);

/// Sensitivity at each 1 - specificity of curve_grid(), linear between the points of the ROC curve and the
/// upper end of its vertical parts. Both classes.
[[nodiscard]] std::vector<double> roc_curve_of(const Staircase& stairs);
/// Precision at each recall of curve_grid(): of the highest threshold that reaches it. A positive.
[[nodiscard]] std::vector<double> precision_recall_curve_of(const Staircase& stairs);

}  // namespace triphase::trainer
