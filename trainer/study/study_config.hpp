// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/config_reader.hpp"

namespace triphase::trainer {

/// A key of a run and the values that a study gives it in turn.
struct StudyAxis {
  std::string key;                    ///< e.g. "loss.temperature_init"
  std::vector<ConfigSetting> values;  ///< one at least, no two equal
};

/// Settings for the cells whose values are those of `match`; all cells without one.
struct StudyRule {
  std::vector<ConfigSetting> match;
  std::vector<ConfigSetting> set;
  std::string origin;  ///< file:line:column
};

/// The [study] table: cells over base run files, as a grid of axes, as a list, or both (the list then
/// comes after the grid). A cell's settings are, the later winning: the base files,
/// TRIPHASE__table__key in the environment, the rules in their order, the cell's own values, and
/// --set table.key, which must not be one of those.
struct StudyConfig {
  std::string name = "study";
  std::string output_dir = "runs";  ///< cells lie in output_dir/name
  std::vector<std::string> base;    ///< run files, relative to the working directory; the later wins
  std::int64_t groups = 0;          ///< that work on cells side by side; 0: one of all ranks
  std::vector<StudyAxis> axes;      ///< [study.axes], in the order written; the last one turns fastest
  std::vector<std::vector<ConfigSetting>> cells;  ///< [[study.cells]]
  std::vector<StudyRule> rules;                   ///< [[study.when]]
  /// What concerns the runs, not the study: set by load_study_config().
  std::map<std::string, std::string> run_environment;
  std::vector<std::string> run_sets;
  [[nodiscard]] std::string folder() const { return output_dir + "/" + name; }
};

/// Keys of the table study are the study's; TRIPHASE__ names and --set of other tables are handed
/// to every run. Whether a run has an axis's key, and takes its values, is for study_cells() to say.
/// @throws ConfigError with file:line:column: an axis without values or with one twice, neither axes
/// nor cells, a rule whose match is no key of a cell or that sets an axis, run.name or
/// run.output_dir (which are the study's), a --set of what the cells set (the environment just
/// yields)
[[nodiscard]] StudyConfig load_study_config(const ConfigSources& sources);

/// Whether two values are equal, whatever their spelling: 1 and 1.0 are.
[[nodiscard]] bool is_same_value(const ConfigSetting& a, const ConfigSetting& b);

/// The setting of `key`, or null.
[[nodiscard]] const ConfigSetting* find_setting(const std::vector<ConfigSetting>& settings,
                                                const std::string& key);

}  // namespace triphase::trainer
