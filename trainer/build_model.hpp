// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapter_plan.hpp"
#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace triphase::trainer {

/// The network of config.model with its weights, not adapted, float32. `weights` may be "random" (drawn from
/// run.seed), a weights file, a folder with model.safetensors, a checkpoint (its adapters are merged), or a run
/// folder (its best checkpoint). BatchNorm mode and recomputation are as the configuration says.
/// @throws ConfigError, CheckpointError (66 when it is not there). Purely local.
[[nodiscard]] models::TwoTower build_base_model(const RunConfig& config);

/// The base model, adapted and frozen as config.adapt says, log-scale at its first value, in the precision and
/// memory layout of config.precision. Tensors are not replaced afterwards.
struct TrainableModel {
  models::TwoTower model{nullptr};
  models::AdapterPlan plan;
};
[[nodiscard]] TrainableModel build_trainable_model(const RunConfig& config);

/// Brings a model (adapted or not) into config.precision's dtype and layout. Call before views of gradients exist.
void apply_precision(models::TwoTower& model, const RunConfig& config);

/// The checkpoint folder that `path` stands for: a checkpoint folder itself, the file checkpoints/best, or a run
/// folder (its best checkpoint, else its newest). Nothing when it is none of these.
[[nodiscard]] std::optional<std::filesystem::path> resolve_checkpoint(const std::filesystem::path& path);

/// hex xxh3 over names, shapes and float32 values of the base weights whose names fulfil `wanted`; layout and
/// wider dtype do not matter.
[[nodiscard]] std::string hash_base_weights(models::TwoTower& model,
                                            const std::function<bool(const std::string&)>& wanted);

}  // namespace triphase::trainer
