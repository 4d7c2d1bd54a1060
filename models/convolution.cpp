// SPDX-License-Identifier: Apache-2.0
#include "models/convolution.hpp"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <optional>

#include "models/precision.hpp"

namespace triphase::models {
namespace {

bool is_matrix_product(const at::Tensor& x, const at::Tensor& weight, const Size3& padding) {
  return x.device().is_cpu() && weight.numel() == weight.size(0) * weight.size(1) &&
         padding == Size3{} && x.is_contiguous(at::MemoryFormat::ChannelsLast3d);
}

// Note [Small volumes in bfloat16]
// Where the input is smaller than the kernel along an axis, oneDNN 3.x (LibTorch 2.11) on
// processors with AVX512-BF16 leaves parts of the weight's gradient unwritten: whatever the memory
// held before, at times NaN. Seen for 3x3x3 kernels over depths of 1 and 2; never in 264 random
// cases whose inputs were at least as large as their kernels. Such convolutions are tiny, so
// float32 costs nothing.
bool is_small_in_bfloat16(const at::Tensor& x, const at::Tensor& weight) {
  if (!x.device().is_cpu()) return false;
  const bool is_cast = x.scalar_type() == at::kFloat &&
                       at::autocast::is_autocast_enabled(at::kCPU) &&
                       at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
  if (!is_cast && x.scalar_type() != at::kBFloat16) return false;
  for (std::int64_t axis = 2; axis < 5; ++axis)
    if (x.size(axis) < weight.size(axis)) return true;
  return false;
}

std::optional<at::Tensor> optional_of(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

}  // namespace

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const Size3& stride, const Size3& padding) {
  if (is_small_in_bfloat16(x, weight)) {
    const AutocastGuard around(at::kCPU);
    around.off();
    return at::conv3d(x.to(at::kFloat), weight.to(at::kFloat),
                      optional_of(bias.defined() ? bias.to(at::kFloat) : bias), stride, padding)
        .to(at::kBFloat16);
  }
  if (!is_matrix_product(x, weight, padding))
    return at::conv3d(x, weight, optional_of(bias), stride, padding);
  at::Tensor seen = x;
  for (std::size_t axis = 0; axis < 3; ++axis)
    if (stride[axis] > 1)
      seen = seen.slice(static_cast<std::int64_t>(axis) + 2, 0, std::nullopt, stride[axis]);
  const at::Tensor rows = seen.permute({0, 2, 3, 4, 1});
  return at::linear(rows, weight.flatten(1), optional_of(bias)).permute({0, 4, 1, 2, 3});
}

}  // namespace triphase::models
