// SPDX-License-Identifier: Apache-2.0
#include "models/convolution.hpp"

#include <ATen/ATen.h>

#include <optional>

namespace triphase::models {
namespace {

bool is_matrix_product(const at::Tensor& x, const at::Tensor& weight, const Size3& padding) {
  return x.device().is_cpu() && weight.numel() == weight.size(0) * weight.size(1) &&
         padding == Size3{} && x.is_contiguous(at::MemoryFormat::ChannelsLast3d);
}

}  // namespace

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const Size3& stride, const Size3& padding) {
  if (!is_matrix_product(x, weight, padding))
    return at::conv3d(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, stride,
                      padding);
  at::Tensor seen = x;
  for (std::size_t axis = 0; axis < 3; ++axis)
    if (stride[axis] > 1)
      seen = seen.slice(static_cast<std::int64_t>(axis) + 2, 0, std::nullopt, stride[axis]);
  const at::Tensor rows = seen.permute({0, 2, 3, 4, 1});
  return at::linear(rows, weight.flatten(1), bias.defined() ? std::optional(bias) : std::nullopt)
      .permute({0, 4, 1, 2, 3});
}

}  // namespace triphase::models
