// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/preprocess.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
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
/// The same into `bytes`, which has just as many as they take.
void encode_voxels_into(std::span<const float> voxels, const VoxelCodec& codec,
                        std::span<std::byte> bytes);
/// The other way. `bytes` may be unaligned; out has one float for each stored voxel.
void decode_voxels(std::span<const std::byte> bytes, const VoxelCodec& codec, std::span<float> out);
/// The same rounded to bfloat16, as its bits.
void decode_voxels(std::span<const std::byte> bytes, const VoxelCodec& codec,
                   std::span<std::uint16_t> out);

/// Upper half of the float's bits, rounded to nearest, ties to even. Not for NaN.
[[nodiscard]] inline std::uint16_t bfloat16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// Round to nearest, ties to even; overflow gives infinity.
[[nodiscard]] std::uint16_t half_from_float(float value);
[[nodiscard]] inline float float_from_half(std::uint16_t half) {
  // The exponent is moved by a multiplication, which is right for subnormal halves too.
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7FFFU) << 13;
  const float value = std::bit_cast<float>(magnitude) * 0x1p112F;
  const bool special = (half & 0x7C00U) == 0x7C00U;
  const std::uint32_t bits =
      special ? magnitude | 0x7F800000U : std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>(bits | (static_cast<std::uint32_t>(half & 0x8000U) << 16));
}

}  // namespace triphase::data
