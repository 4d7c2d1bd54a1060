// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace triphase {

/// A value with its key and its place: of one configuration, to be handed on to another.
struct ConfigSetting {
  std::string key;     ///< dotted, e.g. "adapt.image.rank"
  std::string value;   ///< as TOML
  std::string origin;  ///< as ConfigReader::origin() says it
  bool is_array = false;
  std::vector<ConfigSetting> elements{};  ///< of an array, under the same key, each with its own place
};

/// Where configuration comes from; later beats earlier: files in order, then environment, then
/// settings, then sets.
struct ConfigSources {
  std::vector<std::filesystem::path> files;
  std::map<std::string, std::string> environment;  ///< only TRIPHASE__a__b names are looked at
  std::vector<std::string> sets;                   ///< "a.b=value"; value in TOML, or a bare string
  std::vector<ConfigSetting> settings{};           ///< errors name their origin
};

/// The names TRIPHASE__* of this process's environment.
[[nodiscard]] std::map<std::string, std::string> config_environment();

/// A merged TOML document that knows where every value came from (file:line:column, an environment
/// name or --set) and which keys were asked for. Every key is read once, by name, into a typed
/// variable whose value before the call is the default. finish() then refuses whatever nobody asked
/// for.
class ConfigReader {
 public:
  /// @throws ConfigError for TOML that does not parse (file:line:column), DataError (66) for a
  /// missing file
  explicit ConfigReader(const ConfigSources& sources);
  ~ConfigReader();
  ConfigReader(ConfigReader&&) noexcept;

  /// Reads `table.key` (dotted path, e.g. "adapt.image.rank") into value; absent leaves the
  /// default. An integer may stand where a double is wanted, nothing else is converted.
  /// @throws ConfigError with the place when the type is wrong
  /// @return true when the key was given
  bool read(const std::string& path, bool& value);
  bool read(const std::string& path, std::int64_t& value);
  bool read(const std::string& path, double& value);
  bool read(const std::string& path, std::string& value);
  bool read(const std::string& path, std::vector<std::string>& value);
  bool read(const std::string& path, std::vector<double>& value);
  bool read(const std::string& path, std::vector<std::int64_t>& value);
  /// One of the allowed words. @throws ConfigError that lists them
  bool read_choice(const std::string& path, std::string& value,
                   const std::vector<std::string>& allowed);

  /// Number of tables in an array of tables, e.g. "finding"; its keys are then read as
  /// "finding[0].name".
  [[nodiscard]] std::int64_t array_size(const std::string& path);

  /// All values of a table whose keys only the user knows, in the order written. A key with dots may
  /// stand in quotes or be written as tables; what a later source says takes the place of what an
  /// earlier one said. They are no part of resolved_toml().
  /// @throws ConfigError with the place for a key that stands twice in one source, and for a value
  /// that is no boolean, number, string or array
  [[nodiscard]] std::vector<ConfigSetting> read_settings(const std::string& table);

  /// True when at least one key of `table` (e.g. "preprocess") was given, known or not.
  [[nodiscard]] bool has_table(const std::string& table) const;

  /// "run.toml:12:9", "environment TRIPHASE__A__B", "--set a.b" or "default".
  [[nodiscard]] std::string origin(const std::string& path) const;

  /// ConfigError for the value at `path`, message prefixed by its origin. For checks of ranges and
  /// of combinations: `throw reader.error("loss.temperature_init", "must be in (0, 100], is 0")`.
  [[nodiscard]] ConfigError error(const std::string& path, const std::string& message) const;

  /// @throws ConfigError for the first key that was given and never read, with the nearest known
  /// key
  void finish() const;

  /// Every key that was read, in reading order, as TOML that this reader accepts again. With
  /// origins, each line ends in a comment that says where its value came from.
  [[nodiscard]] std::string resolved_toml(bool with_origins) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The word of `candidates` with the smallest edit distance to `word`, when it is near enough to
/// help.
[[nodiscard]] std::optional<std::string> nearest_word(const std::string& word,
                                                      const std::vector<std::string>& candidates);

}  // namespace triphase
