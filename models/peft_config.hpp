// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace triphase::models {

/// What Triphase reads from and writes to peft's adapter_config.json.
/// Source: peft's tuners/lora/config.py and utils/other.py.
struct PeftConfig {
  std::int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rslora = false;
  std::vector<std::string> target_modules;       ///< a path, or its end at a dot
  std::optional<std::string> target_expression;  ///< instead: re.fullmatch with a path
  std::vector<std::string> excluded_modules;     ///< both likewise: what is not a target after all
  std::optional<std::string> excluded_expression;
  /// Expression for a path's end (re.match of "(.*\\.)?(key)$"), and its value; the first that fits
  /// holds.
  std::vector<std::pair<std::string, std::int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> modules_to_save;

  /// All three: @throws CheckpointError for an expression that is none or takes too much work
  [[nodiscard]] bool targets(const std::string& path) const;
  [[nodiscard]] std::int64_t rank_of(const std::string& path) const;
  [[nodiscard]] double alpha_of(const std::string& path) const;
};

/// @throws CheckpointError for another method than LoRA, or a variant that Triphase does not
/// compute
[[nodiscard]] PeftConfig read_peft_config(const std::filesystem::path& path);

[[nodiscard]] Json peft_config_json(const PeftConfig& config);

}  // namespace triphase::models
