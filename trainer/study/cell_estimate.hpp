// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/study/study_cells.hpp"

namespace triphase::trainer {

/// What is known of a cell before it runs.
struct CellEstimate {
  enum class State { kMissing, kResumable, kDone };
  State state = State::kMissing;
  std::int64_t steps_done = 0;         ///< of the newest checkpoint
  std::optional<std::int64_t> steps;   ///< of the whole run; unknown where epochs count and no cache is there
  std::optional<std::int64_t> pairs;   ///< steps x batch.global_pairs
  std::optional<std::int64_t> num_trainable;
  double trainable_percent = 0;        ///< valid with num_trainable
  std::optional<double> seconds;       ///< of training that is left; unknown before a cell has been measured
};

/// Looks at run folders, caches and models; the rates are those that finished cells have measured
/// (the mean of the same method and preset, else of all). Never fails: what cannot be found out is
/// unknown. Purely local.
/// @param count_parameters builds a model for each preset, to know num_trainable
[[nodiscard]] std::vector<CellEstimate> estimate_cells(const std::vector<StudyCell>& cells,
                                                       bool count_parameters);

/// What is left to do in each cell, in a unit of its own: seconds where all are known, else pairs,
/// else cells. 0 for what is done.
[[nodiscard]] std::vector<double> costs_of(const std::vector<CellEstimate>& estimates);

/// The group of each cell that costs something, the dearest first and each to the group that has
/// least to do (of equals, the first); -1 for the others. A pure function.
[[nodiscard]] std::vector<int> assign_cells(const std::vector<double>& costs, int num_groups);

/// "45 s", "12 min", "3 h 05 min".
[[nodiscard]] std::string duration_text(double seconds);

/// The table of `triphase study --dry-run`. @param num_ranks of the whole job
[[nodiscard]] std::string describe_study(const StudyConfig& study,
                                         const std::vector<StudyCell>& cells, int num_ranks);

}  // namespace triphase::trainer
