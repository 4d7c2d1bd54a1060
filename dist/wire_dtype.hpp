// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace triphase::dist {

/// Rounded to nearest, ties to even; too large becomes infinite, NaN stays. On the calling thread
/// alone. @param values float32 or float64, contiguous
[[nodiscard]] at::Tensor rounded_to_bfloat16(const at::Tensor& values);

/// values[i] goes to into[offset + i], of the same or a wider dtype. On the calling thread alone.
/// @param values bfloat16, or of into's dtype; both contiguous
void copy_widening(const at::Tensor& values, const at::Tensor& into, std::int64_t offset);

}  // namespace triphase::dist
