// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/run_config.hpp"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace triphase::trainer {

/// What a run folder holds for a report. A folder that only holds evaluations (a model before
/// adaptation) is a run, too, without steps.
struct ReportRun {
  std::string name;  ///< run.name
  std::filesystem::path folder;
  RunConfig config;
  /// "adapt.method", "\"full\"", as the run's file has them; another version may have others.
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::string> unknown_settings;  ///< keys that this version does not have
  Json environment;               ///< environment.json, or null
  std::vector<Json> records;      ///< of metrics.jsonl, in order of steps
  std::vector<Json> evaluations;  ///< evaluation/*.json by name of file
  /// evaluation/*.scores.json: scores of single samples, from which differences between runs are
  /// computed. No page shows them.
  std::vector<Json> scores;
  [[nodiscard]] bool is_trained() const { return !records.empty(); }
};

/// Settings that this version does not have are kept apart: the run may be of a newer one.
/// @throws DataError (66) for a folder without config.toml, or with neither metrics.jsonl nor an
/// evaluation;
///         (65) for a file that does not parse, naming it and the line; ConfigError for a setting
///         that this version has and whose value it refuses
[[nodiscard]] ReportRun read_report_run(const std::filesystem::path& folder);

/// "table.key" and value of each line of a resolved configuration.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> flat_settings(
    const std::string& resolved_toml);

}  // namespace triphase::trainer
