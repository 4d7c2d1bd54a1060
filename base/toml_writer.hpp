// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace triphase {

/// A value as TOML writes it; a parser reads back the same value and the same type.
[[nodiscard]] std::string toml_text(bool value);
[[nodiscard]] std::string toml_text(std::int64_t value);
[[nodiscard]] std::string toml_text(double value);
[[nodiscard]] std::string toml_text(const std::string& value);
[[nodiscard]] std::string toml_text(const std::vector<std::string>& values);
[[nodiscard]] std::string toml_text(const std::vector<double>& values);
[[nodiscard]] std::string toml_text(const std::vector<std::int64_t>& values);

/// One `key = value  # comment`. A path such as "finding[0]" with an empty value stands for the
/// table alone.
struct TomlLine {
  std::string path;     ///< bare keys with dots and indices, e.g. "finding[0].name"
  std::string value;    ///< from toml_text()
  std::string comment;  ///< may be empty
};

/// Writes the lines as one document: the keys of a table together, tables and keys in order of
/// their first appearance, arrays of tables in order of their index.
[[nodiscard]] std::string write_toml(const std::vector<TomlLine>& lines);

}  // namespace triphase
