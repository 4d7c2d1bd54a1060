// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/file.hpp"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace triphase::models {

/// Limits on what a weights file may hold, so that a small file cannot ask for much memory.
inline constexpr std::size_t kMaxNameBytes = 4096;
inline constexpr std::size_t kMaxDimensions = 16;
inline constexpr std::int64_t kMaxTensors = 32'768;

/// Maps a file. Every tensor keeps the mapping alive, hence shared_ptr.
/// @throws CheckpointError (66) when it is not there; IoError
[[nodiscard]] std::shared_ptr<const MappedFile> map_weights(const std::filesystem::path& path);

/// Hands `part` of the file to `visit` in pieces and gives each piece's memory back after its
/// visit, so that a file of any size is read in little memory.
void visit_pieces(const MappedFile& file, std::span<const std::byte> part,
                  const std::function<void(std::span<const std::byte>)>& visit);

/// Where a tensor lies in a mapped file. Sizes, strides and the place have been checked.
struct TensorPlace {
  at::ScalarType dtype = at::kFloat;
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;         ///< in elements
  const std::byte* first_element = nullptr;  ///< inside the mapping
};
/// A tensor over the mapping's own memory. It must not be changed in place.
[[nodiscard]] at::Tensor mapped_tensor(const std::shared_ptr<const MappedFile>& file,
                                       const TensorPlace& place);

/// A bool of another value than 0 and 1 is undefined behaviour wherever it is used.
/// @throws CheckpointError naming the tensor
void check_bools(std::span<const std::byte> bytes, const std::string& name,
                 const std::string& source);

}  // namespace triphase::models
