// SPDX-License-Identifier: Apache-2.0
// The towers on a GPU beside the same towers on the CPU.
#include "models/adapter_plan.hpp"
#include "models/dropout.hpp"
#include "models/max_pool.hpp"
#include "models/two_tower.hpp"
#include "tests/gpu/gpu_test_support.hpp"
#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

using test::equal_bits;
using test::Input;
using test::random_input;
using test::random_model;
using test::relative_error;
using test::TensorMap;
using triphase::test::Deterministic;
using triphase::test::kGpu;

struct Case {
  std::string method = "full";
  BatchNormMode batch_norm = BatchNormMode::kFrozen;
  Recompute recompute = Recompute::kNone;
  double dropout = 0;
  bool is_training = true;
  bool is_channels_last = false;
};

/// A tiny model in its last detail as the case wants it, the same on every device.
TwoTower make_model(const Case& tested, const at::Device& device, at::ScalarType dtype) {
  TwoTower model = random_model(11);
  if (tested.method == "peft") {
    AdaptOptions adapt;
    adapt.method = "peft";
    adapt.image.rank = adapt.text.rank = 2;
    adapt.image.dropout = adapt.text.dropout = tested.dropout;
    apply_adapters(model, plan_adapters(model, adapt), 0);
    test::fill_factors(model, 12);
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors = model->parameters();
  for (const at::Tensor& buffer : model->buffers()) tensors.push_back(buffer);
  for (at::Tensor& tensor : tensors) {
    at::Tensor moved = tensor.to(device);
    if (tensor.is_floating_point()) moved = moved.to(dtype);
    if (tested.is_channels_last && tensor.dim() == 5)
      moved = moved.contiguous(at::MemoryFormat::ChannelsLast3d);
    tensor.set_data(moved);
  }
  model->image_tower()->set_batch_norm(tested.batch_norm, {});
  model->image_tower()->set_recompute(tested.recompute);
  model->text_tower()->set_recompute(tested.recompute);
  model->train(tested.is_training);
  return model;
}

/// Embeddings and the gradients of the contrastive loss, on the host.
TensorMap pass(const Case& tested, const at::Device& device, at::ScalarType dtype,
               std::int64_t text_length) {
  TwoTower model = make_model(tested, device, dtype);
  const Input input = random_input(3, text_length, 13);
  const DropoutScope scope({101, 102, 103});
  at::Tensor volumes = input.volumes.to(device, dtype);
  if (tested.is_channels_last) volumes = volumes.contiguous(at::MemoryFormat::ChannelsLast3d);
  const Embeddings rows =
      model->forward(volumes, input.tokens.to(device), input.mask.to(device), true);
  const at::Tensor loss = test::contrastive_loss(rows, model->log_scale()) +
                          rows.phenotype_logits.square().mean();
  loss.backward();
  TensorMap found{{"image", rows.image.detach().cpu()},
                  {"text", rows.text.detach().cpu()},
                  {"phenotypes", rows.phenotype_logits.detach().cpu()},
                  {"loss", loss.detach().cpu()}};
  for (const auto& item : model->named_parameters())
    if (item.value().grad().defined()) found[item.key()] = item.value().grad().cpu();
  for (const auto& item : model->named_buffers()) found["after." + item.key()] = item.value().cpu();
  return found;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string method : {"full", "peft"})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlocks, Recompute::kStages})
      for (const bool is_training : {false, true})
        cases.push_back({.method = method,
                         .batch_norm = is_training && method == "full" ? BatchNormMode::kLocal
                                                                       : BatchNormMode::kFrozen,
                         .recompute = recompute,
                         .dropout = method == "peft" && is_training ? 0.3 : 0.0,
                         .is_training = is_training,
                         .is_channels_last = recompute == Recompute::kBlocks});
  return cases;
}

std::string name_of(const Case& tested) {
  return str(tested.method, " recompute ", static_cast<int>(tested.recompute),
             tested.is_training ? " training" : " evaluation",
             tested.is_channels_last ? " channels last" : "");
}

TEST(GpuTowers, OutputsAndEveryGradientAreThoseOfTheCpuInFloat64) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  for (const Case& tested : all_cases())
    for (const std::int64_t length : {9, 70}) {  // dense and chunked attention
      const TensorMap cpu = pass(tested, at::kCPU, at::kDouble, length);
      const TensorMap gpu = pass(tested, kGpu, at::kDouble, length);
      ASSERT_EQ(cpu.size(), gpu.size());
      double largest = 0;
      for (const auto& [name, value] : cpu)
        if (value.is_floating_point()) largest = std::max(largest, value.abs().max().item<double>());
      for (const auto& [name, value] : cpu) {
        ASSERT_TRUE(gpu.contains(name)) << name;
        // A gradient that is zero but for rounding has no digits of its own.
        const double error = (gpu.at(name).to(at::kDouble) - value.to(at::kDouble)).abs().max().item<double>();
        EXPECT_LT(error, 1e-9 * std::max(value.abs().max().item<double>(), 1e-3 * largest))
            << name << ", " << name_of(tested) << ", " << length << " tokens";
      }
    }
}

TEST(GpuTowers, Float32AgreesToRounding) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  for (Case tested : all_cases()) {
    tested.dropout = 0;  // numbers go by place in memory, where convolutions of other dtypes lie otherwise
    const TensorMap cpu = pass(tested, at::kCPU, at::kDouble, 40);
    const TensorMap gpu = pass(tested, kGpu, at::kFloat, 40);
    for (const char* name : {"image", "text", "phenotypes", "loss"})
      EXPECT_LT(relative_error(gpu.at(name).to(at::kDouble), cpu.at(name)), 1e-4)
          << name << ", " << name_of(tested);
  }
}

TEST(GpuTowers, DeterministicPassesRepeatToTheBit) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  for (const Case& tested : all_cases()) {
    const TensorMap first = pass(tested, kGpu, at::kFloat, 70);
    for (int again = 0; again < 3; ++again) {
      const TensorMap next = pass(tested, kGpu, at::kFloat, 70);
      for (const auto& [name, value] : first)
        EXPECT_TRUE(equal_bits(next.at(name), value)) << name << ", " << name_of(tested);
    }
  }
}

TEST(GpuDropout, DropsWhatTheCpuDrops) {
  TRIPHASE_NEEDS_GPU();
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16})
    for (const double p : {0.1, 0.5, 0.97}) {
      const at::Tensor x = test::normal({3, 5, 33, 7}, 3).to(dtype);
      const at::Tensor scores = test::normal({3 * 4, 2, 8, 24}, 4).to(dtype);
      const auto drop = [&](const at::Device& device, std::optional<std::uint64_t> seed) {
        std::optional<DropoutScope> scope;
        if (seed)
          at::manual_seed(*seed);
        else
          scope.emplace(std::vector<std::uint64_t>{1, 2, 3});
        std::vector<at::Tensor> kept{dropout(x.to(device), p), dropout(x.to(device), p),
                                     attention_dropout(scores.to(device), p, {4, 8, 8}),
                                     attention_dropout(scores.to(device), p, {4, 8, 7}),
                                     attention_dropout(scores.to(device), p, {4, 8, 8}, DropoutForm::kOperators)};
        for (at::Tensor& each : kept) each = each.cpu();
        return kept;
      };
      for (const std::optional<std::uint64_t> seed : {std::optional<std::uint64_t>(), {5}}) {
        const auto cpu = drop(at::kCPU, seed);
        const auto gpu = drop(kGpu, seed);
        for (std::size_t i = 0; i < cpu.size(); ++i)
          EXPECT_TRUE(equal_bits(gpu[i], cpu[i])) << dtype << " " << p << " " << i;
      }
    }
}

}  // namespace
}  // namespace triphase::models
