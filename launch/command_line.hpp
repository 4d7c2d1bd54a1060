// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace triphase::launch {

/// One option of a command. Without a value name it is a flag.
struct OptionSpec {
  std::string name;        ///< without the dashes
  std::string value_name{};  ///< e.g. "DIR"; empty: a flag
  std::string help{};
  bool required = false;
  bool repeated = false;
};

/// What a command takes, as data: its help page and its parser are made from it.
struct CommandSpec {
  std::string name;      ///< e.g. "cache build"
  std::string summary;   ///< one line
  std::string example{};   ///< lines that can be pasted into a shell
  std::vector<OptionSpec> options{};
  std::string positional_name{};            ///< e.g. "RUN_DIR..."; empty: none are taken
  std::int64_t min_positionals = 0;
  std::int64_t max_positionals = 0;
};

/// The words of one command line, checked against its spec.
class Arguments {
 public:
  std::map<std::string, std::vector<std::string>> values;  ///< flags map to an empty list
  std::vector<std::string> positionals;

  [[nodiscard]] bool has(const std::string& name) const { return values.contains(name); }
  [[nodiscard]] std::string text(const std::string& name, const std::string& absent = "") const;
  [[nodiscard]] std::vector<std::string> all(const std::string& name) const;
  /// @throws ConfigError when the value is not a whole number in [low, high]
  [[nodiscard]] std::int64_t integer(const std::string& name, std::int64_t absent, std::int64_t low,
                                     std::int64_t high) const;
  /// @throws ConfigError when the value is not a number in [low, high]
  [[nodiscard]] double number(const std::string& name, double absent, double low, double high) const;
};

/// @throws ConfigError for an unknown option (naming the nearest; --set and --config say that the
/// command reads no configuration), a missing value or a wrong count
[[nodiscard]] Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words);

[[nodiscard]] std::string help_text(const CommandSpec& spec);

}  // namespace triphase::launch
