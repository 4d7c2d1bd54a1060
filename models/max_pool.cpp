// SPDX-License-Identifier: Apache-2.0
#include "models/max_pool.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <vector>

namespace triphase::models {
namespace {

constexpr std::int64_t kSize = 3;
constexpr std::int64_t kStride = 2;
constexpr std::int64_t kPadding = 1;

// Note [Pooling in a fixed order]
// Windows overlap, and LibTorch's kernel for GPUs adds what several windows send to one place in any
// order; it refuses to run where deterministic algorithms are asked for. Here each of a window's 27
// places takes its turn: the places that windows have in common with their neighbours are then
// written one after another, each turn as a strided slice that no two windows share. A place outside x
// may have the number of one inside; what is sent there is cut off with the padding.

struct MaxPoolFunction : torch::autograd::Function<MaxPoolFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    auto [pooled, indices] =
        at::max_pool3d_with_indices(x, {kSize, kSize, kSize}, {kStride, kStride, kStride},
                                    {kPadding, kPadding, kPadding});
    context->save_for_backward({indices});
    context->saved_data["sizes"] = x.sizes();
    context->mark_non_differentiable({indices});
    return pooled;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor& gradient = gradients[0];
    const at::Tensor indices = context->get_saved_variables()[0];
    const std::vector<std::int64_t> sizes = context->saved_data["sizes"].toIntVector();
    // Padded, so that every window is whole, and each place of it a slice.
    std::vector<std::int64_t> padded = sizes;
    std::array<at::Tensor, 3> start;  // of each window, along each axis, in x's own count
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const std::int64_t windows = gradient.size(static_cast<std::int64_t>(axis) + 2);
      padded[axis + 2] = (windows - 1) * kStride + kSize;
      std::vector<std::int64_t> along{1, 1, 1};
      along[axis] = windows;
      start[axis] = at::arange(windows, indices.options()).mul_(kStride).sub_(kPadding).view(along);
    }
    at::Tensor sum =
        at::empty(padded, gradient.options().memory_format(gradient.suggest_memory_format()));
    sum.zero_();
    const at::Tensor first = (start[0] * sizes[3] + start[1]) * sizes[4] + start[2];
    for (std::int64_t place = 0; place < kSize * kSize * kSize; ++place) {
      const std::array<std::int64_t, 3> at{place / (kSize * kSize), place / kSize % kSize,
                                           place % kSize};
      at::Tensor slice = sum;
      for (std::size_t axis = 0; axis < 3; ++axis)
        slice = slice.slice(static_cast<std::int64_t>(axis) + 2, at[axis], std::nullopt, kStride)
                    .narrow(static_cast<std::int64_t>(axis) + 2, 0,
                            gradient.size(static_cast<std::int64_t>(axis) + 2));
      const std::int64_t here = (at[0] * sizes[3] + at[1]) * sizes[4] + at[2];
      slice.add_(gradient.masked_fill(indices.ne(first + here), 0));
    }
    for (std::size_t axis = 0; axis < 3; ++axis)
      sum = sum.narrow(static_cast<std::int64_t>(axis) + 2, kPadding, sizes[axis + 2]);
    return {sum};
  }
};

}  // namespace

at::Tensor max_pool(const at::Tensor& x, MaxPoolForm form) {
  const bool needs_order = !x.is_cpu() && at::globalContext().deterministicAlgorithms();
  if (form == MaxPoolForm::kAuto && !needs_order)
    return at::max_pool3d(x, {kSize, kSize, kSize}, {kStride, kStride, kStride},
                          {kPadding, kPadding, kPadding});
  return MaxPoolFunction::apply(x);
}

}  // namespace triphase::models
