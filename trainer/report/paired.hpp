// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

namespace triphase::trainer {

/// Two AUCs on the same studies and their difference b - a.
struct AucComparison {
  double auc_a = 0;
  double auc_b = 0;
  double difference = 0;
  std::array<double, 2> interval{};  ///< 95 %, of the difference
  double p_value = 1;                ///< two-sided
};
/// How two scores of the same studies are compared: DeLong's test.
/// @param labels 1 or 0, as many as each score
using CompareAucs = std::function<AucComparison(const std::vector<std::int8_t>& labels,
                                                const std::vector<double>& scores_a,
                                                const std::vector<double>& scores_b)>;

/// Most runs on the same studies whose pairs are all compared; of more, each is compared with one:
/// the model without adaptation, else the first.
inline constexpr std::size_t kMaxAllPairs = 6;

/// Differences in AUC between runs whose evaluations hold the same studies (same data hash, split,
/// samples and labels): [{run_a, run_b, split, finding, scored_by, n, auc_a, auc_b, difference,
/// difference_ci95, p_value, p_holm}], a being the one compared with. p_holm is corrected for all
/// comparisons of the list. Empty without `compare`. Source: Holm, Scandinavian Journal of
/// Statistics 6, 1979.
/// @param figures with `runs` in the order of `runs`
[[nodiscard]] Json paired_differences(const std::vector<ReportRun>& runs, const Json& figures,
                                      const CompareAucs& compare);

}  // namespace triphase::trainer
