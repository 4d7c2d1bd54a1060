// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace triphase::trainer {

/// Euclidean norm over all elements of all tensors. Squares are summed in float64 over pieces of a
/// fixed size, in a fixed order: the same bits for any number of threads, so that replicas cannot
/// drift apart.
/// @param tensors float32 or float64, dense (any layout)
[[nodiscard]] double global_norm(const std::vector<at::Tensor>& tensors);

/// The sum of squares under that root.
[[nodiscard]] double global_square_sum(const std::vector<at::Tensor>& tensors);

}  // namespace triphase::trainer
