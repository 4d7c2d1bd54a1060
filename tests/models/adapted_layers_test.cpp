// SPDX-License-Identifier: Apache-2.0
#include "models/adapted_layers.hpp"

#include "tests/models/models_test_support.hpp"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::max_error;
using test::normal;

using ConvOptions = AdaptedConv3dImpl::Options;

/// 3x3x3 strided, 1x1x1, the stem's (3,7,7) plain and folded, with bias, anisotropic.
std::vector<ConvOptions> conv_sweep() {
  return {{.in_channels = 4,
           .out_channels = 6,
           .kernel = {3, 3, 3},
           .stride = {2, 2, 2},
           .padding = {1, 1, 1}},
          {.in_channels = 4, .out_channels = 6},
          {.in_channels = 3,
           .out_channels = 5,
           .kernel = {3, 7, 7},
           .stride = {1, 2, 2},
           .padding = {1, 3, 3}},
          {.in_channels = 3,
           .out_channels = 5,
           .kernel = {3, 7, 7},
           .stride = {1, 2, 2},
           .padding = {1, 3, 3},
           .fold_input_channels = true},
          {.in_channels = 2, .out_channels = 7, .bias = true},
          {.in_channels = 2,
           .out_channels = 3,
           .kernel = {1, 2, 3},
           .padding = {0, 1, 0},
           .bias = true}};
}

AdaptedConv3d random_conv(const ConvOptions& options, at::ScalarType dtype) {
  AdaptedConv3d layer(options);
  layer->to(dtype);
  const at::NoGradGuard no_grad;
  layer->weight.copy_(0.2 * normal(layer->weight.sizes(), 1, dtype));
  if (layer->bias.defined()) layer->bias.copy_(normal(layer->bias.sizes(), 2, dtype));
  return layer;
}

at::Tensor input_for(const ConvOptions& options, at::ScalarType dtype) {
  return normal({2, options.fold_input_channels ? 1 : options.in_channels, 6, 9, 8}, 3, dtype);
}

template <class Layer>
void fill_b(Layer& layer) {
  const at::NoGradGuard no_grad;
  layer->lora_B.copy_(normal(layer->lora_B.sizes(), 4, layer->lora_B.scalar_type()));
}

TEST(AdaptedLayers, AdaptingChangesNoOutputToTheBit) {
  for (const ConvOptions& options : conv_sweep()) {
    AdaptedConv3d layer = random_conv(options, at::kFloat);
    const at::Tensor x = input_for(options, at::kFloat);
    const at::Tensor before = layer(x);
    layer->adapt({.rank = 3, .alpha = 7}, 5);
    EXPECT_TRUE(equal_bits(layer(x), before));
  }
  AdaptedLinear linear(5, 4);
  {
    const at::NoGradGuard no_grad;
    linear->weight.copy_(normal({4, 5}, 1));
  }
  const at::Tensor x = normal({3, 5}, 2);
  const at::Tensor before = linear(x);
  linear->adapt({.rank = 2}, 5);
  EXPECT_TRUE(equal_bits(linear(x), before));
}

TEST(AdaptedLayers, MergedEqualsTwoPaths) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    // float32: some hundred products in another order.
    const double tolerance = dtype == at::kFloat ? 1e-5 : 1e-12;
    for (const bool rslora : {false, true})
      for (const ConvOptions& options : conv_sweep()) {
        AdaptedConv3d layer = random_conv(options, dtype);
        layer->adapt({.rank = 3, .alpha = 7, .rslora = rslora}, 5);
        fill_b(layer);
        const at::Tensor x = input_for(options, dtype);
        const at::Tensor two_paths = layer(x);
        layer->merge();
        EXPECT_FALSE(layer->is_adapted());
        EXPECT_EQ(layer->named_parameters().size(), options.bias ? 2U : 1U);
        EXPECT_LT(max_error(layer(x), two_paths) / two_paths.abs().max().item<double>(), tolerance);
      }
    AdaptedLinear linear(5, 4);
    linear->to(dtype);
    linear->adapt({.rank = 2, .alpha = 3}, 5);
    fill_b(linear);
    const at::Tensor x = normal({3, 5}, 2, dtype);
    const at::Tensor two_paths = linear(x);
    linear->merge();
    EXPECT_LT(max_error(linear(x), two_paths), tolerance);
  }
}

/// The output, and the gradients of x and both factors.
template <class Layer>
std::vector<at::Tensor> pass(Layer& layer, const at::Tensor& input) {
  const at::Tensor x = input.detach().requires_grad_();
  const at::Tensor y = layer(x);
  const at::Tensor loss = (y * normal(y.sizes(), 6, y.scalar_type())).sum();
  std::vector<at::Tensor> found =
      torch::autograd::grad({loss}, {x, layer->lora_A, layer->lora_B});
  found.push_back(y.detach());
  return found;
}

void expect_close(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected,
                  double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_LT(test::relative_error(found[i], expected[i]), tolerance) << i;
}

TEST(AdaptedLayers, MergedExecutionEqualsTwoPathsWithGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    // float32: gradients of factors sum some thousand products in another order.
    const double tolerance = dtype == at::kFloat ? 1e-4 : 1e-12;
    const auto results = [&](const ConvOptions& options, bool rslora, AdapterExecution execution) {
      AdaptedConv3d layer = random_conv(options, dtype);
      layer->adapt({.rank = 3, .alpha = 7, .rslora = rslora, .execution = execution}, 5);
      fill_b(layer);
      return pass(layer, input_for(options, dtype));
    };
    for (const bool rslora : {false, true})
      for (const ConvOptions& options : conv_sweep())
        expect_close(results(options, rslora, AdapterExecution::kMerged),
                     results(options, rslora, AdapterExecution::kTwoPath), tolerance);
    const auto linear_results = [&](AdapterExecution execution) {
      AdaptedLinear linear(5, 4);
      linear->to(dtype);
      linear->adapt({.rank = 2, .alpha = 3, .execution = execution}, 5);
      fill_b(linear);
      return pass(linear, normal({3, 2, 5}, 2, dtype));
    };
    expect_close(linear_results(AdapterExecution::kMerged),
                 linear_results(AdapterExecution::kTwoPath), tolerance);
  }
}

TEST(AdaptedLayers, MergedExecutionRefusesDropout) {
  AdaptedLinear linear(5, 4);
  EXPECT_THROW(
      linear->adapt({.rank = 2, .dropout = 0.1, .execution = AdapterExecution::kMerged}, 5),
      ConfigError);
  EXPECT_FALSE(linear->is_adapted());
}

template <class Layer>
void expect_round_trip(Layer& layer, const at::Tensor& x) {
  const at::Tensor weight = layer->weight.clone();
  const at::Tensor two_paths = layer(x);
  const at::Tensor delta = layer->delta_weight();
  for (int trip = 0; trip < 3; ++trip) {
    layer->merge_keeping_factors();
    EXPECT_TRUE(layer->is_adapted() && layer->is_merged());
    EXPECT_LT(test::relative_error(layer(x), two_paths), 1e-5);  // float32, another order
    EXPECT_LT(max_error(layer->weight, weight + delta), 1e-6);
    layer->unmerge();
    EXPECT_FALSE(layer->is_merged());
    EXPECT_LT(test::relative_error(layer(x), two_paths), 1e-5);
    // Each trip rounds two sums of about the size of the largest weight.
    EXPECT_LT(test::relative_error(layer->weight, weight), 4e-7 * (trip + 1));
  }
  EXPECT_THROW(layer->unmerge(), InternalError);
  layer->merge_keeping_factors();
  EXPECT_THROW(layer->merge_keeping_factors(), InternalError);
  layer->merge();  // what is in the weight already is not added again
  EXPECT_FALSE(layer->is_adapted() || layer->is_merged());
  EXPECT_LT(test::relative_error(layer(x), two_paths), 1e-5);
  EXPECT_THROW(layer->merge_keeping_factors(), InternalError);
}

TEST(AdaptedLayers, UnmergingGivesTheWeightBackAndKeepsTheFactors) {
  for (const ConvOptions& options : conv_sweep()) {
    AdaptedConv3d layer = random_conv(options, at::kFloat);
    layer->adapt({.rank = 3, .alpha = 3}, 5);
    fill_b(layer);
    expect_round_trip(layer, input_for(options, at::kFloat));
  }
  AdaptedLinear linear(5, 4);
  {
    const at::NoGradGuard no_grad;
    linear->weight.copy_(normal({4, 5}, 1));
  }
  linear->adapt({.rank = 2, .alpha = 2}, 5);
  fill_b(linear);
  expect_round_trip(linear, normal({3, 5}, 2));
}

TEST(AdaptedLayers, FactorsHavePeftsShapesNamesAndSpread) {
  AdaptedConv3d layer = random_conv(conv_sweep()[0], at::kFloat);
  layer->adapt({.rank = 64, .alpha = 7}, 5);
  EXPECT_EQ(layer->named_parameters()["lora_A.weight"].sizes(), at::IntArrayRef({64, 4, 3, 3, 3}));
  EXPECT_EQ(layer->named_parameters()["lora_B.weight"].sizes(), at::IntArrayRef({6, 64, 1, 1, 1}));
  const double bound = 1 / std::sqrt(4.0 * 27);
  EXPECT_LE(layer->lora_A.abs().max().item<double>(), bound);
  EXPECT_NEAR(layer->lora_A.std().item<double>(), bound / std::sqrt(3.0),
              0.04 * bound);  // 6,912 draws
  EXPECT_EQ(layer->lora_B.abs().max().item<double>(), 0);
  EXPECT_FALSE(layer->weight.requires_grad());
  EXPECT_TRUE(layer->lora_A.requires_grad());
  EXPECT_TRUE(layer->lora_B.requires_grad());
}

TEST(AdaptedLayers, FactorsFollowTheModuleWhenItMoves) {
  AdaptedLinear linear(5, 4);
  linear->adapt({.rank = 2}, 5);
  linear->to(at::kDouble);
  EXPECT_EQ(linear->lora_A.scalar_type(), at::kDouble);
  EXPECT_EQ(linear(normal({1, 5}, 1, at::kDouble)).scalar_type(), at::kDouble);
}

TEST(AdaptedLayers, TheScaleIsAlphaOverRankOrItsRoot) {
  EXPECT_DOUBLE_EQ((LowRankOptions{.rank = 4, .alpha = 6}).scale(), 1.5);
  EXPECT_DOUBLE_EQ((LowRankOptions{.rank = 4, .alpha = 6, .rslora = true}).scale(), 3);
}

TEST(AdaptedLayers, DropoutTouchesTheAdapterAloneAndOnlyInTraining) {
  AdaptedLinear linear(64, 4);
  linear->adapt({.rank = 2, .alpha = 2, .dropout = 0.5}, 5);
  const at::Tensor x = normal({1, 64}, 2);
  const at::Tensor base = linear(x);  // B is zero
  fill_b(linear);
  at::manual_seed(1);
  const at::Tensor once = linear(x);
  EXPECT_GT(max_error(linear(x), once), 0);
  linear->eval();
  const at::Tensor whole = linear(x);
  EXPECT_TRUE(equal_bits(linear(x), whole));
  linear->train();
  at::Tensor mean = at::zeros_like(whole);
  for (int i = 0; i < 4000; ++i) mean += (linear(x).detach() - base.detach()) / 4000;
  // The mean of 4,000 draws; the spread of one is about the size of the adapter's output itself.
  EXPECT_LT(max_error(mean, (whole - base).detach()), 0.1 * whole.abs().max().item<double>() + 0.1);
}

TEST(AdaptedLayers, FoldedStemEqualsThreeEqualChannelsWithGradients) {
  const ConvOptions folded = conv_sweep()[3];
  AdaptedConv3d layer = random_conv(folded, at::kDouble);
  const at::Tensor x = input_for(folded, at::kDouble);
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> gradients;
  for (const std::int64_t channels : {1, 3}) {  // three channels are taken as they are
    layer->zero_grad();
    outputs.push_back(layer(x.expand({2, channels, 6, 9, 8})));
    (outputs.back() * normal(outputs.back().sizes(), 6, at::kDouble)).sum().backward();
    gradients.push_back(layer->weight.grad().clone());
  }
  EXPECT_LT(max_error(outputs[0], outputs[1]), 1e-12);
  EXPECT_LT(max_error(gradients[0], gradients[1]), 1e-11);
}

TEST(AdaptedLayers, WrongUseIsRefused) {
  AdaptedLinear linear(5, 4);
  EXPECT_THROW((void)linear->delta_weight(), InternalError);
  EXPECT_THROW(linear->adapt({.rank = 0}, 1), ConfigError);
  linear->adapt({.rank = 2}, 1);
  EXPECT_THROW(linear->adapt({.rank = 2}, 1), InternalError);
}

}  // namespace
}  // namespace triphase::models
