// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace triphase::models {

using Size3 = std::array<std::int64_t, 3>;

/// at::conv3d, equal to it to rounding. On a CPU a 1x1x1 kernel over channels that lie together in
/// memory is computed as the matrix product that it is: torch's own path for it is up to three
/// times slower there; and a volume smaller than its kernel is convolved in float32 under bfloat16
/// (see Note [Small volumes in bfloat16]).
/// @param x [B,I,X,Y,Z]; @param weight [O,I,kx,ky,kz]; @param bias [O] or undefined
/// @return [B,O,X',Y',Z'], channels last where x is
[[nodiscard]] at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& bias, const Size3& stride,
                                  const Size3& padding);

}  // namespace triphase::models
