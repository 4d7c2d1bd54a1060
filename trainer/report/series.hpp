// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

#include <vector>

namespace triphase::trainer {

/// Most groups that charts tell apart one by one; beyond that they show families.
inline constexpr std::size_t kMaxSeries = 8;

/// Fills figures.groups, figures.series and each run's `group` and `series`.
/// Runs that differ by run.seed alone (same settings, data and evaluated studies) are a group.
/// A series is what shares one look in charts: a group, or, where there are more than kMaxSeries
/// groups, all runs of a method (and, where both are there, of a learned or a fixed temperature).
/// Both are arrays of {name, runs: [place in figures.runs]}.
/// @param figures with `runs` in the order of `runs`
void add_series(const std::vector<ReportRun>& runs, Json& figures);

}  // namespace triphase::trainer
