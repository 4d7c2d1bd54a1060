// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
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

/// Parses and checks the header against the size of the file. After this every entry lies inside the file,
/// entries neither overlap nor leave gaps, and each has the bytes that its shape and dtype ask for.
/// @param source names the file in messages
/// @throws CheckpointError
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                         const std::string& source);

/// The format's name of a dtype, e.g. "BF16". @throws CheckpointError for one it has not
[[nodiscard]] std::string safetensors_dtype(at::ScalarType dtype);

inline constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  ///< as the reference implementation
inline constexpr std::int64_t kMaxTensors = 1'000'000;

}  // namespace triphase::models
