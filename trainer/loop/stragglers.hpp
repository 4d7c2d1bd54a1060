// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "dist/process_group.hpp"

namespace triphase::trainer {

/// What a rank itself took for the phases of a step, without waiting for others: that wait would
/// make every rank look as slow as the slowest.
struct OwnSeconds {
  double data = 0;
  double forward = 0;
  double backward = 0;
  double optimizer = 0;

  OwnSeconds& operator+=(const OwnSeconds& more);
};

/// Per phase the median over the ranks, the most, and the rank that took it (the lowest of equals):
/// {"data": {"median": s, "max": s, "rank": r}, "forward": ...}. The same on every rank.
/// @param sum seconds over `num_steps` steps; figures are per step. Collective over group.
[[nodiscard]] Json straggler_figures(dist::ProcessGroup& group, const OwnSeconds& sum,
                                     std::int64_t num_steps);

}  // namespace triphase::trainer
