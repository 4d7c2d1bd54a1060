// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "dist/runtime.hpp"
#include "trainer/study/study_cells.hpp"

namespace triphase::trainer {

struct StudyOutcome {
  bool stopped_on_request = false;  ///< of any group; exit with 75
  ExitCode exit_code = ExitCode::kDone;  ///< of the first cell that failed
  std::string table;   ///< for people; rank 0's
  std::string report;  ///< path of the page; empty where no cell is done
};

/// Trains and evaluates every cell that has no evaluation of its test split yet, so that a stopped
/// study goes on where it stopped and a failed cell is tried again; then writes study.json, and
/// report.html of the cells that are done, into the study's folder. With study.groups the ranks are divided
/// into groups of equal size, rank order kept, which work on cells side by side (see assign_cells()).
/// A cell that fails is told on the log, in study.json and in the table, and the others go on; a
/// CommError or a timeout ends the job, since ranks may no longer agree. Collective over runtime.world().
/// @param show_progress on rank 0 and, line by line, on the first rank of each group
/// @throws ConfigError before any cell starts: groups that do not divide the ranks, a batch that a
/// group's ranks do not divide, and a cell whose folder holds results of other settings than the study
/// gives it now; nothing is overwritten
[[nodiscard]] StudyOutcome run_study(const StudyConfig& study, dist::Runtime& runtime,
                                     bool show_progress);

/// Ranks of each group. @throws ConfigError when they cannot be equally many
[[nodiscard]] int ranks_per_group(const StudyConfig& study, int num_ranks);

/// What study_cells() cannot know: whether the cells fit the ranks of a group. @throws ConfigError
void check_cells_fit(const std::vector<StudyCell>& cells, int num_ranks);

}  // namespace triphase::trainer
