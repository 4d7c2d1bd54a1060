// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace triphase::data {

/// Nearly normal, mean 0, variance 1, at most 3.46 in size: the sum of four uniform 16-bit numbers
/// (Irwin-Hall). For noise on voxels, where a logarithm and a sine for each would cost ten times as
/// much.
[[nodiscard]] inline float fast_normal(std::uint64_t bits) {
  const auto sum = static_cast<std::int32_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                             ((bits >> 32) & 0xffff) + (bits >> 48));
  return static_cast<float>(sum - 131070) * 2.6429e-5F;  // 1 / (65536 * sqrt(4 / 12))
}

}  // namespace triphase::data
