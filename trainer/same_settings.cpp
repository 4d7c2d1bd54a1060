// SPDX-License-Identifier: Apache-2.0
#include "trainer/same_settings.hpp"

#include <map>
#include <sstream>

#include "base/toml_writer.hpp"

namespace triphase::trainer {
namespace {

/// "table.key" to its value, from what ConfigReader::resolved_toml() writes: one key a line.
std::map<std::string, std::string> keys_of(const std::string& toml) {
  std::map<std::string, std::string> keys;
  std::string table;
  std::istringstream lines(toml);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = line.find(" = ");
    if (line.starts_with('['))
      table = line.substr(1, line.find(']') - 1) + ".";
    else if (equals != std::string::npos)
      keys[table + line.substr(0, equals)] = line.substr(equals + 3);
  }
  return keys;
}

/// `now`'s values of the keys that decide no number.
std::vector<std::string> indifferent_settings(const RunConfig& now) {
  return {"run.output_dir=" + toml_text(now.run.output_dir),
          "run.log_every_steps=" + toml_text(now.run.log_every_steps),
          "run.max_seconds=" + toml_text(now.run.max_seconds),
          "data.workers=" + toml_text(now.data.workers),
          "data.read_ahead_bytes=" + toml_text(now.data.read_ahead_bytes),
          "data.staging_dir=" + toml_text(now.data.staging_dir),
          "cache.compression=" + toml_text(now.cache.compression),
          "checkpoint.every_steps=" + toml_text(now.checkpoint.every_steps),
          "checkpoint.keep_last=" + toml_text(now.checkpoint.keep_last),
          "distributed.backend=" + toml_text(now.distributed.backend),
          "distributed.overlap=" + toml_text(now.distributed.overlap),
          "distributed.timeout_seconds=" + toml_text(now.distributed.timeout_seconds)};
}

}  // namespace

std::vector<std::string> differing_settings(const std::filesystem::path& file,
                                            const RunConfig& now) {
  std::map<std::string, std::string> there;
  try {
    there = keys_of(
        load_run_config({.files = {file}, .environment = {}, .sets = indifferent_settings(now)})
            .resolved_toml);
  } catch (const Error& error) {
    return {str("it cannot be read (", error.message(), ")")};
  }
  std::vector<std::string> lines;
  for (const auto& [key, value] : keys_of(now.resolved_toml)) {
    const auto found = there.find(key);
    if (found == there.end())
      lines.push_back(str(key, " is not given there, ", value, " here"));
    else if (found->second != value)
      lines.push_back(str(key, " is ", found->second, " there, ", value, " here"));
    if (found != there.end()) there.erase(found);
  }
  for (const auto& [key, value] : there)
    lines.push_back(str(key, " is ", value, " there, not given here"));
  return lines;
}

}  // namespace triphase::trainer
