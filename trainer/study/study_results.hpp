// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"
#include "trainer/study/study_cells.hpp"

namespace triphase::trainer {

/// How a cell ended.
struct CellOutcome {
  enum class Status { kNotRun, kDone, kFailed };
  Status status = Status::kNotRun;
  ExitCode exit_code = ExitCode::kDone;  ///< of a failure
  std::string message;                   ///< of a failure
};

/// study.json: {name, axes: [{key, values}], cells: [{name, run_dir, settings, status, error?,
/// findings?, by_site?, training?}]}, from the files of the cells that are done. findings holds the numbers of
/// the cell's evaluation without curves.
/// @throws DataError for an evaluation that does not parse
[[nodiscard]] Json study_json(const StudyConfig& study, const std::vector<StudyCell>& cells,
                              const std::vector<CellOutcome>& outcomes);

/// For a terminal, from study_json(): one row a cell and finding; where seeds are an axis, below it
/// the mean, standard deviation and range over them; where a cell was tested at several sites, a matrix of
/// the AUC at each. A pure function.
[[nodiscard]] std::string study_table(const Json& study);

}  // namespace triphase::trainer
