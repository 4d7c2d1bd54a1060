// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/preprocess.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace triphase::data {

/// How voxels in output_range become bytes in a cache: value = stored * scale + offset.
struct VoxelCodec {
  Storage storage = Storage::kUint16;
  double scale = 1;
  double offset = 0;
};

[[nodiscard]] VoxelCodec codec_for(const PreprocessOptions& options);
[[nodiscard]] std::int64_t bytes_per_voxel(Storage storage);

/// Little-endian bytes of all voxels. uint16 rounds to the nearest of 65536 steps over output_range,
/// float16 to the nearest half.
[[nodiscard]] std::vector<std::byte> encode_voxels(std::span<const float> voxels,
                                                   const VoxelCodec& codec);
/// The other way. `bytes` may be unaligned; out has one float for each stored voxel.
void decode_voxels(std::span<const std::byte> bytes, const VoxelCodec& codec, std::span<float> out);

/// Round to nearest, ties to even; overflow gives infinity.
[[nodiscard]] std::uint16_t half_from_float(float value);
[[nodiscard]] float float_from_half(std::uint16_t half);

}  // namespace triphase::data
