// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/config_reader.hpp"

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace triphase {

enum class ConfigKind { kBool, kInteger, kDouble, kString, kDate, kArray, kTable, kTableArray };

/// "an integer", "a table", …
[[nodiscard]] std::string kind_text(ConfigKind kind);

struct ConfigValue {
  ConfigKind kind = ConfigKind::kTable;
  std::variant<std::monostate, bool, std::int64_t, double, std::string> scalar;
  std::vector<ConfigValue> elements;  ///< of a kArray
  std::int64_t num_tables = 0;        ///< of a kTableArray
  std::string origin;  ///< "run.toml:12:3", "environment TRIPHASE__A__B" or "--set a.b"
};

/// Orders what was given as the user reads it: file by file, line by line.
struct ConfigPlace {
  std::int64_t layer = 0;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  auto operator<=>(const ConfigPlace&) const = default;
};

struct GivenKey {
  ConfigValue value;
  ConfigPlace place;
};

/// What was given, by path: every value, every table and every element of an array of tables
/// ("finding[0]"). A key that is no bare TOML key stands in quotes.
using GivenKeys = std::map<std::string, GivenKey>;

/// Parses the sources and lays later ones over earlier ones: tables merge, all else replaces.
/// @throws ConfigError for TOML that does not parse, DataError for a file that is missing or too
/// large
[[nodiscard]] GivenKeys merge_layers(const ConfigSources& sources);

}  // namespace triphase
