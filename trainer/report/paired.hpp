// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

#include <vector>

namespace triphase::trainer {

/// Most runs on the same studies whose pairs are all compared; of more, each is compared with one:
/// the model without adaptation, else the first.
inline constexpr std::size_t kMaxAllPairs = 6;

/// Differences in AUC between runs whose evaluations hold the same studies (same data hash, split,
/// samples and labels): [{run_a, run_b, split, finding, scored_by, n, auc_a, auc_b, difference,
/// difference_ci95, p_value, p_holm}], a being the one compared with, by compare_aucs(); where a class has
/// one sample there is no such test and no row. p_holm is corrected for all comparisons of the list.
/// Source: Holm, Scandinavian Journal of Statistics 6, 1979.
/// @param figures with `runs` in the order of `runs`
[[nodiscard]] Json paired_differences(const std::vector<ReportRun>& runs, const Json& figures);

}  // namespace triphase::trainer
