// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapted_layers.hpp"
#include "models/batch_norm.hpp"

namespace triphase::models {

/// norm(conv(x)), equal to it to rounding. Where the norm uses its running statistics it is an
/// affine map of each channel, which is folded into the convolution: kernels times the scale, plus
/// a shift. Then no activation is read or written for it, and none is kept for backward. Gradients
/// reach all four of weight and factors, scale and shift.
/// @param x [B,I,X,Y,Z]; @return [B,O,X',Y',Z']; may be a view of fresh memory
[[nodiscard]] at::Tensor convolve_and_normalise(AdaptedConv3d& conv, BatchNorm& norm,
                                                const at::Tensor& x);

}  // namespace triphase::models
