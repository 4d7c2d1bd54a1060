// SPDX-License-Identifier: Apache-2.0
#include "models/conv_norm.hpp"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>

#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

using test::equal_bits;
using test::max_error;
using test::normal;

struct Case {
  AdaptedConv3dImpl::Options conv;
  std::optional<AdapterExecution> adapter;
  bool trains_weight = false;
  bool trains_norm = false;
};

std::vector<AdaptedConv3dImpl::Options> kernels() {
  return {{.in_channels = 4, .out_channels = 6},
          {.in_channels = 4, .out_channels = 6, .stride = {2, 2, 2}, .bias = true},
          {.in_channels = 4,
           .out_channels = 6,
           .kernel = {3, 3, 3},
           .stride = {2, 2, 2},
           .padding = {1, 1, 1}},
          {.in_channels = 3,
           .out_channels = 6,
           .kernel = {3, 7, 7},
           .stride = {1, 2, 2},
           .padding = {1, 3, 3},
           .fold_input_channels = true},
          {.in_channels = 2, .out_channels = 6, .kernel = {1, 2, 3}, .bias = true}};
}

std::vector<Case> sweep() {
  std::vector<Case> cases;
  for (const AdaptedConv3dImpl::Options& conv : kernels())
    for (const bool trains_norm : {false, true}) {
      for (const bool trains_weight : {false, true})
        cases.push_back({conv, std::nullopt, trains_weight, trains_norm});
      for (const AdapterExecution execution :
           {AdapterExecution::kTwoPath, AdapterExecution::kMerged})
        cases.push_back({conv, execution, false, trains_norm});
    }
  return cases;
}

struct Pair {
  AdaptedConv3d conv{nullptr};
  BatchNorm norm{nullptr};
};

Pair random_pair(const Case& c, at::ScalarType dtype) {
  Pair pair{AdaptedConv3d(c.conv), BatchNorm(c.conv.out_channels)};
  pair.conv->to(dtype);
  pair.norm->to(dtype);
  if (c.adapter) pair.conv->adapt({.rank = 2, .alpha = 3, .execution = *c.adapter}, 5);
  const at::NoGradGuard no_grad;
  std::uint64_t seed = 20;
  for (at::Tensor& parameter : pair.conv->parameters())
    parameter.copy_(0.3 * normal(parameter.sizes(), ++seed, dtype));
  const at::IntArrayRef channels = pair.norm->weight.sizes();
  pair.norm->weight.copy_(normal(channels, 1, dtype));
  pair.norm->bias.copy_(normal(channels, 2, dtype));
  pair.norm->running_mean.copy_(normal(channels, 3, dtype));
  pair.norm->running_var.copy_(normal(channels, 4, dtype).square() + 0.1);
  if (!c.adapter)
    for (at::Tensor& parameter : pair.conv->parameters())
      parameter.set_requires_grad(c.trains_weight);
  for (at::Tensor& parameter : pair.norm->parameters()) parameter.set_requires_grad(c.trains_norm);
  return pair;
}

at::Tensor input_for(const Case& c, at::ScalarType dtype, at::MemoryFormat format) {
  return normal({2, c.conv.fold_input_channels ? 1 : c.conv.in_channels, 6, 9, 8}, 6, dtype)
      .contiguous(format);
}

/// The output and the gradients of x and of all that trains.
std::vector<at::Tensor> results(const Pair& pair, const at::Tensor& y, const at::Tensor& x) {
  std::vector<at::Tensor> inputs{x};
  for (const at::Tensor& parameter : pair.conv->parameters())
    if (parameter.requires_grad()) inputs.push_back(parameter);
  for (const at::Tensor& parameter : pair.norm->parameters())
    if (parameter.requires_grad()) inputs.push_back(parameter);
  const at::Tensor loss = (y * normal(y.sizes(), 7, y.scalar_type())).sum();
  std::vector<at::Tensor> found = torch::autograd::grad({loss}, inputs);
  found.push_back(y.detach());
  return found;
}

TEST(ConvNorm, FoldedEqualsOneAfterTheOtherWithGradients) {
  for (const at::MemoryFormat format :
       {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast3d})
    for (const Case& c : sweep()) {
      Pair pair = random_pair(c, at::kDouble);
      const at::Tensor x = input_for(c, at::kDouble, format).requires_grad_();
      const auto found = results(pair, convolve_and_normalise(pair.conv, pair.norm, x), x);
      const auto expected = results(pair, pair.norm(pair.conv(x)), x);
      ASSERT_EQ(found.size(), expected.size());
      EXPECT_EQ(found.size(), 2 +
                                  (c.adapter         ? 2U
                                   : c.trains_weight ? 1U + c.conv.bias
                                                     : 0U) +
                                  (c.trains_norm ? 2U : 0U));
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double scale = std::max(1.0, expected[i].abs().max().item<double>());
        EXPECT_LT(max_error(found[i], expected[i]), 1e-12 * scale) << i;
      }
    }
}

TEST(ConvNorm, BatchStatisticsAreNotFolded) {
  const Case c{kernels()[2], std::nullopt, true, true};
  Pair pair = random_pair(c, at::kDouble);
  const at::Tensor x = input_for(c, at::kDouble, at::MemoryFormat::Contiguous);
  pair.norm->set_mode(BatchNormMode::kLocal);
  const at::Tensor y = convolve_and_normalise(pair.conv, pair.norm, x);
  EXPECT_LT(max_error(y.mean({0, 2, 3, 4}), pair.norm->bias), 1e-12);
  pair.norm->eval();
  EXPECT_GT(max_error(convolve_and_normalise(pair.conv, pair.norm, x), y), 0.1);
}

TEST(ConvNorm, FrozenNormsFollowTheStatisticsThatTrainingMoves) {
  for (const BatchNormMode mode : {BatchNormMode::kLocal, BatchNormMode::kSync}) {
    Pair pair = random_pair({kernels()[2], std::nullopt, false, false}, at::kDouble);
    pair.norm->set_mode(mode, [](const at::Tensor& row) { return row.unsqueeze(0); });
    for (int pass = 0; pass < 3; ++pass) {
      const at::Tensor x = (pass + 1) * normal({2, 4, 6, 9, 8}, 6, at::kDouble);
      pair.norm->eval();
      const at::Tensor y = convolve_and_normalise(pair.conv, pair.norm, x);
      EXPECT_LT(max_error(y, pair.norm(pair.conv(x))), 1e-11) << pass;
      pair.norm->train();
      (void)convolve_and_normalise(pair.conv, pair.norm, x);
    }
  }
}

/// Under bfloat16 autocast.
at::Tensor narrow_output(Pair& pair, const at::Tensor& x) {
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor y = convolve_and_normalise(pair.conv, pair.norm, x);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  return y.detach();
}

TEST(ConvNorm, FrozenKernelsAreNarrowedAgainWhenAnythingOfThemChanges) {
  const Case c{kernels()[2], std::nullopt, false, false};
  const at::Tensor x = input_for(c, at::kFloat, at::MemoryFormat::ChannelsLast3d);
  Pair kept = random_pair(c, at::kFloat);
  const auto expect_as_new = [&] {
    Pair anew = random_pair(c, at::kFloat);
    const at::NoGradGuard no_grad;
    anew.conv->weight.copy_(kept.conv->weight);
    anew.norm->weight.copy_(kept.norm->weight);
    anew.norm->running_var.copy_(kept.norm->running_var);
    EXPECT_TRUE(equal_bits(narrow_output(kept, x), narrow_output(anew, x)));
  };
  expect_as_new();
  expect_as_new();  // from what is kept
  const at::NoGradGuard no_grad;
  kept.conv->weight.mul_(2);
  expect_as_new();
  kept.conv->weight.set_data(kept.conv->weight.clone() * 3);
  expect_as_new();
  kept.norm->weight.add_(1);
  expect_as_new();
  kept.norm->running_var.mul_(4);
  expect_as_new();
  EXPECT_EQ(kept.conv->weight.scalar_type(), at::kFloat);
}

TEST(ConvNorm, NarrowKernelsAreThoseThatAutocastWouldMake) {
  for (const bool trains_weight : {false, true}) {
    const Case c{kernels()[2], std::nullopt, trains_weight, false};
    Pair pair = random_pair(c, at::kFloat);
    const at::Tensor x = input_for(c, at::kFloat, at::MemoryFormat::ChannelsLast3d);
    const ChannelAffine affine = pair.norm->running_affine();
    const at::Tensor kernel = (pair.conv->weight * affine.scale.view({-1, 1, 1, 1, 1}));
    const at::Tensor expected =
        at::conv3d(x.to(at::kBFloat16), kernel.to(at::kBFloat16), affine.shift.to(at::kBFloat16),
                   c.conv.stride, c.conv.padding);
    EXPECT_TRUE(equal_bits(narrow_output(pair, x), expected.detach()));
  }
}

TEST(ConvNorm, AFrozenLinearLayerFollowsItsWeight) {
  AdaptedLinear linear(5, 4);
  const at::Tensor x = normal({3, 5}, 2);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  for (const bool trains : {false, true})
    for (const double factor : {1.0, 2.0}) {
      linear->weight.set_requires_grad(trains);
      const at::NoGradGuard no_grad;
      linear->weight.copy_(factor * normal({4, 5}, 1));
      const at::Tensor expected = at::linear(x, linear->weight.clone(), linear->bias);
      EXPECT_TRUE(equal_bits(linear(x), expected));
      at::autocast::clear_cache();
    }
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

}  // namespace
}  // namespace triphase::models
