// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::models {

/// One tensor as a safetensors header describes it, checked.
struct TensorEntry {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;  ///< bytes from the first byte after the header
  std::int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  ///< in the header's order
  std::map<std::string, std::string> metadata;
  std::int64_t data_offset = 0;  ///< of the first byte after the header
};

/// Parses and checks the header against the size of the file. After this every entry lies inside
/// the file, entries neither overlap nor leave gaps, and each has the bytes that its shape and
/// dtype ask for.
/// @param source names the file in messages
/// @throws CheckpointError
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                         const std::string& source);

/// The format's name of a dtype, e.g. "BF16". @throws CheckpointError for one it has not
[[nodiscard]] std::string safetensors_dtype(at::ScalarType dtype);

/// The reference implementation allows 100 MB; this is 40 times Merlin's header, and a hostile one
/// of this size costs little memory.
inline constexpr std::int64_t kMaxHeaderBytes = 8 << 20;

/// The metadata key under which Triphase's own files carry the xxh3 of the whole file, sixteen
/// zeros in its place.
inline constexpr const char* kHashKey = "triphase.xxh3";

/// Where the hash's sixteen digits stand in a header text, or npos.
[[nodiscard]] std::size_t find_hash_digits(std::string_view header);

}  // namespace triphase::models
