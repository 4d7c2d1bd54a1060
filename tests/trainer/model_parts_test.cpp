// SPDX-License-Identifier: Apache-2.0
// What a run and an evaluation build their model from: inputs, precision, hashes, places of
// weights.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include "models/weights.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/build_model.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/compute_scope.hpp"
#include "trainer/evaluate_model.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using trainer::ComputeScope;
using trainer::PrecisionOptions;

TEST(ModelInput, HasTheAskedTypeAndLayoutAndIsNotCopiedWithoutNeed) {
  const at::Tensor volumes = at::randn({2, 1, 4, 5, 6});
  for (const char* compute : {"float32", "bfloat16"}) {
    PrecisionOptions precision;
    precision.compute = compute;
    EXPECT_TRUE(trainer::model_input(volumes, precision).is_same(volumes)) << compute;
  }
  PrecisionOptions precision;
  precision.compute = "float64";
  const at::Tensor wide = trainer::model_input(volumes, precision);
  EXPECT_EQ(wide.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(wide, volumes.to(at::kDouble)));
  precision = {};
  precision.memory_format = "channels_last_3d";
  const at::Tensor turned = trainer::model_input(at::randn({2, 3, 4, 5, 6}), precision);
  EXPECT_TRUE(turned.is_contiguous(at::MemoryFormat::ChannelsLast3d));
  EXPECT_FALSE(turned.is_contiguous());
}

TEST(ComputeScope, CastsToBfloat16WhileItLivesAndOnlyWhenAsked) {
  const at::Tensor rows = at::randn({4, 4});
  for (const char* compute : {"float32", "float64", "bfloat16"}) {
    PrecisionOptions precision;
    precision.compute = compute;
    {
      const ComputeScope scope(precision);
      const at::ScalarType expected = precision.compute == "bfloat16" ? at::kBFloat16 : at::kFloat;
      EXPECT_EQ(at::matmul(rows, rows).scalar_type(), expected) << compute;
    }
    EXPECT_EQ(at::matmul(rows, rows).scalar_type(), at::kFloat) << compute;
  }
}

TEST(ComputeScope, LeavesTheThreadsSettingAsItWas) {
  const at::ScalarType before = at::autocast::get_autocast_dtype(at::kCPU);
  at::autocast::set_autocast_dtype(at::kCPU, at::kHalf);
  PrecisionOptions precision;
  precision.compute = "bfloat16";
  { const ComputeScope scope(precision); }
  EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), at::kHalf);
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  at::autocast::set_autocast_dtype(at::kCPU, before);
}

TEST(ComputeScope, ForgetsTheCastWeightsSoThatAnUpdateIsSeen) {
  const at::Tensor rows = at::randn({3, 8});
  at::Tensor weight = at::randn({8, 8}).requires_grad_();
  PrecisionOptions precision;
  precision.compute = "bfloat16";
  const auto product = [&] {
    const ComputeScope scope(precision);
    return at::matmul(rows, weight).detach().to(at::kFloat);
  };
  const at::Tensor first = product();
  {
    const at::NoGradGuard no_gradients;
    weight.mul_(2);
  }
  EXPECT_TRUE(at::equal(product(), 2 * first));
}

TEST(HashWeights, IsEqualForEqualWeightsAndSeesOneBitOfAnyTensor) {
  const trainer::RunConfig config = tiny_run("unused", {{"adapt.method", "\"peft\""}});
  const auto make = [&] {
    models::TwoTower model = trainer::build_base_model(config);
    models::apply_adapters(model, models::plan_adapters(model, config.adapt), 5);
    return model;
  };
  models::TwoTower model = make();
  models::TwoTower twin = make();
  const std::string hash = trainer::hash_weights(model);
  EXPECT_EQ(trainer::hash_weights(twin), hash);
  const at::NoGradGuard no_gradients;
  std::vector<at::Tensor> tensors;
  for (auto& [name, tensor] : models::base_state(model)) tensors.push_back(tensor);
  for (auto& [name, tensor] : models::adapter_state(model)) tensors.push_back(tensor);
  for (at::Tensor& tensor : tensors) {
    if (tensor.numel() == 0) continue;
    auto* last_byte = static_cast<char*>(tensor.mutable_data_ptr()) + tensor.nbytes() - 1;
    *last_byte = static_cast<char>(*last_byte ^ 1);
    EXPECT_NE(trainer::hash_weights(model), hash);
    *last_byte = static_cast<char>(*last_byte ^ 1);
  }
  EXPECT_EQ(trainer::hash_weights(model), hash);
}

TEST(ApplyPrecision, WidensFloatsAndLeavesCountersAlone) {
  const trainer::RunConfig config = tiny_run("unused", {{"precision.compute", "\"float64\""}});
  models::TwoTower model = trainer::build_base_model(config);
  const auto before = copy_weights(model);
  trainer::apply_precision(model, config);
  for (const auto& [name, tensor] : models::base_state(model)) {
    const at::Tensor& old = before.at(name);
    EXPECT_EQ(tensor.scalar_type(), old.is_floating_point() ? at::kDouble : old.scalar_type())
        << name;
    EXPECT_TRUE(at::equal(tensor.to(old.scalar_type()), old)) << name;
  }
}

/// A run of two epochs' steps with two checkpoints, the first of them marked as the best.
struct RunWithCheckpoints {
  RunWithCheckpoints() {
    config =
        tiny_run(output.path(), {{"schedule.max_steps", "2"}, {"checkpoint.every_steps", "1"}});
    const auto self = dist::make_self_group();
    run_once(config, *self);
    trainer::mark_best_checkpoint(checkpoints(), "step_00000001");
  }
  [[nodiscard]] fs::path run() const { return config.run_dir(); }
  [[nodiscard]] fs::path checkpoints() const { return run() / "checkpoints"; }
  [[nodiscard]] fs::path step(std::int64_t number) const {
    return checkpoints() / trainer::checkpoint_name(number);
  }
  TemporaryFolder output;
  trainer::RunConfig config;
};

TEST(ResolveCheckpoint, UnderstandsEveryFormAndNothingElse) {
  const RunWithCheckpoints run;
  EXPECT_EQ(trainer::resolve_checkpoint(run.step(2)), run.step(2));
  EXPECT_EQ(trainer::resolve_checkpoint(run.step(2) / "model.safetensors"), run.step(2));
  EXPECT_EQ(trainer::resolve_checkpoint(run.checkpoints() / "best"), run.step(1));
  EXPECT_EQ(trainer::resolve_checkpoint(run.run()), run.step(1));
  EXPECT_EQ(trainer::resolve_checkpoint(run.run() / "config.toml"), std::nullopt);
  EXPECT_EQ(trainer::resolve_checkpoint(run.output / "nowhere"), std::nullopt);
  EXPECT_EQ(trainer::resolve_checkpoint(run.output.path()), std::nullopt);
  // Without the mark, or before one was written: the newest.
  fs::remove(run.checkpoints() / "best");
  EXPECT_EQ(trainer::resolve_checkpoint(run.run()), run.step(2));
  fs::remove(run.step(2) / "COMPLETE");
  EXPECT_EQ(trainer::resolve_checkpoint(run.run()), run.step(1));
  EXPECT_EQ(trainer::resolve_checkpoint(run.step(2)), std::nullopt);
}

TEST(ResolveCheckpoint, AMarkThatPointsElsewhereOrNowhereIsRefused) {
  const RunWithCheckpoints run;
  const fs::path mark = run.checkpoints() / "best";
  const auto resolve = [&] { static_cast<void>(trainer::resolve_checkpoint(run.run())); };
  for (const char* text : {"", "\n", "../../other", "step_1/../../..", "/etc"}) {
    write_text(mark, text);
    expect_error<CheckpointError>(resolve, ExitCode::kBadData, {"best"});
  }
  write_text(mark, "step_00000009\n");
  expect_error<CheckpointError>(resolve, ExitCode::kMissingInput, {"best", "step_00000009"});
  fs::remove_all(run.checkpoints());
  fs::create_directory(run.checkpoints());
  expect_error<CheckpointError>(resolve, ExitCode::kMissingInput, {"no complete checkpoint"});
}

TEST(CheckpointConfig, IsTheRunsAndItsDamageIsNamed) {
  const RunWithCheckpoints run;
  EXPECT_EQ(trainer::checkpoint_config(run.step(1)).resolved_toml, run.config.resolved_toml);
  write_text(run.step(1) / "config.toml", "[run]\nname = 3\n");
  expect_error<CheckpointError>([&] { static_cast<void>(trainer::checkpoint_config(run.step(1))); },
                                ExitCode::kBadData, {"step_00000001", "config.toml"});
}

TEST(LoadModelForEvaluation, SaysWhereTheWeightsCameFrom) {
  const RunWithCheckpoints run;
  const trainer::LoadedModel bare = trainer::load_model_for_evaluation(run.config, "");
  EXPECT_EQ(bare.checkpoint, "random");
  EXPECT_EQ(bare.adapt_method, "");
  EXPECT_EQ(bare.step, -1);
  EXPECT_FALSE(bare.model->is_training());
  trainer::LoadedModel best = trainer::load_model_for_evaluation(run.config, run.run().string());
  EXPECT_EQ(best.checkpoint, "run/step_00000001");
  EXPECT_EQ(best.adapt_method, "full");
  EXPECT_EQ(best.step, 1);
  trainer::LoadedModel last = trainer::load_model_for_evaluation(run.config, run.step(2).string());
  EXPECT_EQ(last.step, 2);
  EXPECT_NE(trainer::hash_weights(best.model), trainer::hash_weights(last.model));
  const std::string file = (run.step(2) / "model.safetensors").string();
  trainer::RunConfig from_file = run.config;
  trainer::LoadedModel same = trainer::load_model_for_evaluation(from_file, file);
  EXPECT_EQ(trainer::hash_weights(same.model), trainer::hash_weights(last.model));
}

}  // namespace
}  // namespace triphase::test
