// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace triphase::dist {

/// Integers that are ordered as the numbers are, and not-a-number beyond every number: above for a
/// maximum, below for a minimum. For reductions that would drop it. Source of the trick: the bits of
/// IEEE 754 numbers of one sign are ordered as integers. On the tensor's device. Purely local.
/// @param values float64, float32 or bfloat16 @return int64, or int32
[[nodiscard]] at::Tensor order_keys(const at::Tensor& values, bool is_for_max);

/// The numbers whose keys these are. @param dtype of the values
[[nodiscard]] at::Tensor from_order_keys(const at::Tensor& keys, at::ScalarType dtype);

}  // namespace triphase::dist
