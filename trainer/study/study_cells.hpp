// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/run_config.hpp"
#include "trainer/study/study_config.hpp"

namespace triphase::trainer {

/// One run of a study.
struct StudyCell {
  std::string name;                   ///< its folder's name, see cell_names()
  std::vector<ConfigSetting> values;  ///< of the axes, or as listed; not those of rules
  RunConfig config;                   ///< the whole
  /// Where its result lies, and the configuration that evaluate_run() leaves beside it.
  [[nodiscard]] std::filesystem::path evaluation() const;
  [[nodiscard]] std::filesystem::path evaluation_settings() const;
  /// An evaluation without its configuration counts as none: nobody can tell what it is of.
  [[nodiscard]] bool is_done() const;
};

/// The grid (the last axis turns fastest), then the list, each with its whole configuration, checked
/// as load_run_config() does. Purely local; reads the base files.
/// @throws ConfigError with file:line:column for a key that no run has (naming the nearest) and for a
/// value that it does not take, and when two cells are the same run
[[nodiscard]] std::vector<StudyCell> study_cells(const StudyConfig& study);

/// Whether the rule applies to a cell of these values.
[[nodiscard]] bool is_matched(const StudyRule& rule, const std::vector<ConfigSetting>& values);

/// @throws ConfigError when the folder of any cell holds results of other settings than the study
/// gives it now (see differing_settings()). Reads files.
void check_results_are_of(const std::vector<StudyCell>& cells);

}  // namespace triphase::trainer
