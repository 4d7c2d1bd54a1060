// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace triphase::models {

enum class MaxPoolForm { kAuto, kOrdered };

/// The stem's pooling: maxima over 3x3x3 at stride 2, padded by 1. The gradient goes to the first
/// maximum of a window. Where deterministic algorithms are asked for, the gradient has the same bits
/// at every run on a GPU, too.
/// @param x [B,C,Z,X,Y]
/// @param form kOrdered: the form for such a GPU, anywhere
[[nodiscard]] at::Tensor max_pool(const at::Tensor& x, MaxPoolForm form = MaxPoolForm::kAuto);

}  // namespace triphase::models
