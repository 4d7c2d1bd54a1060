// SPDX-License-Identifier: Apache-2.0
#include "models/recompute.hpp"

#include <ATen/autocast_mode.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "models/dropout.hpp"
#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

using test::equal_bits;
using test::Input;
using test::loss_gradients;
using test::random_input;
using test::TensorMap;

constexpr Recompute kModes[] = {Recompute::kNone, Recompute::kBlocks, Recompute::kStages};

/// Two blocks in a stage and text dropout on request, so that order and random state matter.
TwoTower model_with(double dropout) {
  TwoTowerOptions options = model_preset("merlin_tiny");
  options.image.blocks = {2, 1, 2, 1};
  options.text.dropout = dropout;
  TwoTower model = test::random_model(3, options);
  model->train();
  return model;
}

void set_recompute(TwoTower& model, Recompute mode) {
  model->image_tower()->set_recompute(mode);
  model->text_tower()->set_recompute(mode);
}

void expect_equal(const TensorMap& found, const TensorMap& expected) {
  EXPECT_EQ(found.size(), expected.size());
  for (const auto& [name, gradient] : expected) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_TRUE(equal_bits(found.at(name), gradient)) << name;
  }
}

/// Gradients with the same random numbers in every mode.
TensorMap gradients(TwoTower& model, const Input& input, Recompute mode) {
  set_recompute(model, mode);
  at::manual_seed(5);
  return loss_gradients(model, input);
}

thread_local std::map<std::string, int> operations;  ///< by name, since the last count

/// How often each of torch's operations runs in a pass and its backward.
std::map<std::string, int> count_operations(TwoTower& model, const Input& input, Recompute mode) {
  operations.clear();
  const auto note = [](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
    ++operations[call.name()];
    return nullptr;
  };
  const at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(note).scopes({at::RecordScope::FUNCTION}));
  gradients(model, input, mode);
  at::removeCallback(handle);
  return operations;
}

TEST(Recompute, EverySegmentRunsExactlyTwice) {
  TwoTower model = model_with(0.0);
  model->image_tower()->set_batch_norm(BatchNormMode::kLocal);
  const Input input = random_input(2, 20, 8);
  const auto plain = count_operations(model, input, Recompute::kNone);
  EXPECT_EQ(plain.at("aten::max_pool3d"), 1);
  EXPECT_EQ(plain.at("aten::batch_norm"), 1 + 3 * 6 + 4);  // the stem's, the blocks', downsampling
  EXPECT_EQ(plain.at("aten::gelu"), 2);
  for (const Recompute mode : {Recompute::kBlocks, Recompute::kStages}) {
    const auto counts = count_operations(model, input, mode);
    for (const char* name : {"aten::max_pool3d", "aten::batch_norm", "aten::gelu"})
      EXPECT_EQ(counts.at(name), 2 * plain.at(name)) << name;
  }
}

TEST(Recompute, ASegmentInASegmentIsRefused) {
  struct Weight : torch::nn::Module {
    Weight() { w = register_parameter("w", torch::ones({1})); }
    at::Tensor w;
  } owner;
  const Segment inner = [&](const at::Tensor& x) { return x * owner.w; };
  const Segment outer = [&](const at::Tensor& x) {
    return recompute_in_backward(inner, x, {&owner});
  };
  EXPECT_THROW((void)recompute_in_backward(outer, at::ones({1}), {&owner}), InternalError);
  EXPECT_TRUE(in_counted_pass());  // the flags are back
  recompute_in_backward(inner, at::ones({1}), {&owner}).backward();
  const at::NoGradGuard no_grad;  // nothing is recomputed, so nothing is nested
  EXPECT_NO_THROW((void)recompute_in_backward(outer, at::ones({1}), {&owner}));
}

TEST(Recompute, GradientsAreThoseOfThePlainPassToTheBit) {
  const Input input = random_input(3, 20, 1);
  for (const double dropout : {0.0, 0.3}) {
    TwoTower model = model_with(dropout);
    const TensorMap plain = gradients(model, input, Recompute::kNone);
    for (const Recompute mode : kModes) expect_equal(gradients(model, input, mode), plain);
  }
}

TEST(Recompute, KeyedDropoutIsReplayedToTheBit) {
  const Input input = random_input(3, 20, 1);
  TwoTower model = model_with(0.3);
  const DropoutScope scope({21, 22, 23});
  const TensorMap plain = gradients(model, input, Recompute::kNone);
  for (const Recompute mode : kModes) expect_equal(gradients(model, input, mode), plain);
}

TEST(Recompute, DropoutDrawsTheSameNumbersAgainAndLeavesTheGeneratorWhereItWas) {
  TwoTower model = model_with(0.3);
  const Input input = random_input(2, 20, 2);
  std::vector<double> next;
  for (const Recompute mode : kModes) {
    gradients(model, input, mode);
    next.push_back(at::rand({1}, at::kDouble).item<double>());
  }
  EXPECT_EQ(next[0], next[1]);
  EXPECT_EQ(next[0], next[2]);
}

TEST(Recompute, AdaptersBehindAFrozenStemGetTheirGradients) {
  TwoTower model = model_with(0.1);
  AdaptOptions options{.method = "peft"};
  options.image = {.rank = 2, .dropout = 0.2, .targets = {"conv2"}};
  options.text = {.rank = 2, .dropout = 0.2, .targets = {"query", "value"}};
  apply_adapters(model, plan_adapters(model, options), 7);
  test::fill_factors(model, 70);
  const Input input = random_input(2, 20, 3);
  const TensorMap plain = gradients(model, input, Recompute::kNone);
  EXPECT_EQ(plain.size(), 2 * 6 + 2 * 4 + 1U);  // A and B of every target, and the log-scale
  for (const Recompute mode : kModes) expect_equal(gradients(model, input, mode), plain);
}

TEST(Recompute, AutocastIsReplayedAndItsWeightCacheStaysFresh) {
  TwoTower model = model_with(0.0);
  const Input input = random_input(2, 20, 4);
  std::vector<TensorMap> after;
  for (const Recompute mode : kModes) {
    initialise_weights(model, 3);
    at::autocast::set_autocast_enabled(at::kCPU, true);
    for (int step = 0; step < 2; ++step) {
      const TensorMap found = gradients(model, input, mode);
      at::autocast::clear_cache();
      if (step == 1) after.push_back(found);
      const at::NoGradGuard no_grad;
      for (auto& item : model->named_parameters())
        if (found.contains(item.key())) item.value().sub_(0.1 * found.at(item.key()));
    }
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
  expect_equal(after[1], after[0]);
  expect_equal(after[2], after[0]);
}

TEST(Recompute, LocalStatisticsMoveOncePerPassWithABackward) {
  const Input input = random_input(3, 8, 5);
  std::vector<TensorMap> statistics;
  for (const Recompute mode : kModes) {
    TwoTower model = model_with(0.0);
    model->image_tower()->set_batch_norm(BatchNormMode::kLocal);
    {
      const at::NoGradGuard no_grad;  // as the first pass of gradient caching: nothing moves
      (void)model->encode_image_volumes(input.volumes);
    }
    gradients(model, input, mode);
    TensorMap buffers;
    for (const auto& item : model->named_buffers()) {
      buffers[item.key()] = item.value().clone();
      if (item.key().ends_with("num_batches_tracked")) {
        EXPECT_EQ(item.value().item<std::int64_t>(), 1) << item.key();
      }
    }
    EXPECT_NE(
        buffers.at("encode_image.i3_resnet.layer3.1.bn2.running_mean").abs().max().item<float>(),
        0);
    statistics.push_back(buffers);
  }
  expect_equal(statistics[1], statistics[0]);
  expect_equal(statistics[2], statistics[0]);
}

TEST(Recompute, LocalStatisticsAreTorchsOwn) {
  TwoTower model = model_with(0.0);
  model->image_tower()->set_batch_norm(BatchNormMode::kLocal);
  const Input input = random_input(4, 8, 6);
  (void)model->encode_image_volumes(input.volumes);
  const at::Tensor stem = model->named_parameters()["encode_image.i3_resnet.conv1.weight"];
  const at::Tensor x = input.volumes.permute({0, 1, 4, 2, 3}).repeat({1, 3, 1, 1, 1});
  const at::Tensor y = at::conv3d(x, stem, {}, {1, 2, 2}, {1, 3, 3});
  const at::Tensor mean = model->named_buffers()["encode_image.i3_resnet.bn1.running_mean"];
  const at::Tensor var = model->named_buffers()["encode_image.i3_resnet.bn1.running_var"];
  // Momentum 0.1 from mean 0 and variance 1; the unbiased variance. float32 sums of 9,600 values.
  EXPECT_LT(test::max_error(mean, 0.1 * y.mean({0, 2, 3, 4})), 1e-6);
  EXPECT_LT(test::max_error(var, 0.9 + 0.1 * y.var({0, 2, 3, 4}, /*unbiased=*/true)), 1e-5);
}

TEST(Recompute, FrozenStatisticsNeverMoveInTraining) {
  TwoTower model = model_with(0.0);
  gradients(model, random_input(2, 8, 7), Recompute::kNone);
  for (const auto& item : model->named_buffers())
    EXPECT_EQ(
        item.value().to(at::kDouble).sum().item<double>(),
        item.key().ends_with("running_var") ? static_cast<double>(item.value().numel()) : 0.0);
}

TEST(Recompute, AHookAfterAccumulationOfASharedWeightFiresOnce) {
  struct Weight : torch::nn::Module {
    Weight() { w = register_parameter("w", torch::ones({3}, at::kDouble)); }
    at::Tensor w;
  } owner;
  at::Tensor y = at::ones({3}, at::kDouble);  // needs no gradient
  for (int i = 0; i < 3; ++i)
    y = recompute_in_backward([&owner](const at::Tensor& x) { return (x * owner.w).sin(); }, y,
                              {&owner});
  int fired = 0;
  // A hook on the tensor would also see the gradients of the replays: they end at the same tensor.
  torch::autograd::impl::grad_accumulator(owner.w)->add_post_hook(
      std::make_unique<torch::autograd::utils::LambdaPostHook>(
          [&fired](const torch::autograd::variable_list& outputs,
                   const torch::autograd::variable_list&) {
            ++fired;
            return outputs;
          }));
  y.sum().backward();
  const at::Tensor found = owner.w.grad().clone();
  const at::Tensor w = torch::ones({3}, at::TensorOptions(at::kDouble).requires_grad(true));
  ((((w.sin()) * w).sin()) * w).sin().sum().backward();
  EXPECT_TRUE(equal_bits(found, w.grad()));
  EXPECT_EQ(fired, 1);
}

TEST(Recompute, AnErrorInTheReplayReachesTheCallerOfBackward) {
  struct Weight : torch::nn::Module {
    Weight() { w = register_parameter("w", torch::ones({1})); }
    at::Tensor w;
  } owner;
  int runs = 0;
  const auto segment = [&](const at::Tensor& x) {
    if (++runs == 2) throw NumericsError("the second run");
    return x * owner.w;
  };
  const at::Tensor y = recompute_in_backward(segment, at::ones({1}), {&owner});
  EXPECT_THROW(y.backward(), NumericsError);
  EXPECT_TRUE(in_counted_pass());  // the flags are back
}

}  // namespace
}  // namespace triphase::models
