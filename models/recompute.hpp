// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <initializer_list>

namespace triphase::models {

/// A part of the network: one tensor in, one tensor out.
using Segment = std::function<at::Tensor(const at::Tensor&)>;

/// segment(x), keeping x alone for backward; backward computes the rest again, with the same random
/// numbers and under the same autocast. Gradients are those of segment(x) to the bit, also when x needs
/// none, and every parameter of `owners` gets its gradient once. The segment runs twice, once in forward and
/// once in backward; it must not change x, and what it captures must stay alive until backward.
/// Without gradients to compute this is segment(x).
/// @throws InternalError inside another segment: the inner one would run three times
[[nodiscard]] at::Tensor recompute_in_backward(const Segment& segment, const at::Tensor& x,
                                               std::initializer_list<torch::nn::Module*> owners);

/// True in a pass that will have a backward, and false in its replay: where running statistics move.
[[nodiscard]] bool in_counted_pass();

}  // namespace triphase::models
