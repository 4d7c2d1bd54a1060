// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>

namespace triphase {

/// JSON that keeps the order in which keys were written.
using Json = nlohmann::ordered_json;

/// Reads and parses one JSON file of at most `max_bytes`.
/// @throws DataError naming the file, also for a key that stands twice in one object, a number
///         beyond double, more than 256 levels or 16,384 keys of one object; kMissingInput when the
///         file is not there
[[nodiscard]] Json read_json(const std::filesystem::path& path, std::int64_t max_bytes = 64 << 20);

/// Writes the value with two spaces of indent, atomically (see write_file_atomically()).
void write_json(const std::filesystem::path& path, const Json& value);

}  // namespace triphase
