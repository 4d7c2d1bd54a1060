// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "dist/process_group.hpp"
#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// The network of config.model with its weights, not adapted, float32. `weights` may be "random"
/// (drawn from run.seed), a weights file, a folder with model.safetensors, a checkpoint (its
/// adapters are merged), or a run folder (its best checkpoint). BatchNorm mode and recomputation
/// are as the configuration says. Without a logit bias, which is a run's own.
/// @throws ConfigError, CheckpointError (66 when it is not there). Purely local.
[[nodiscard]] models::TwoTower build_base_model(const RunConfig& config);

/// The network of config.model without weights of its own: what build_base_model() fills.
[[nodiscard]] models::TwoTower make_bare_model(const RunConfig& config);

/// Sets the words of model.batch_norm and precision.recompute on both towers.
/// @param group the ranks whose batches a "sync" BatchNorm joins; it must outlive the last training
///              pass. Without one such a model can be evaluated and not trained.
void set_execution(models::TwoTower& model, const std::string& batch_norm,
                   const std::string& recompute, dist::ProcessGroup* group = nullptr);

/// Brings a model (adapted or not) into config.precision's dtype and layout. Call before views of
/// gradients exist.
void apply_precision(models::TwoTower& model, const RunConfig& config,
                     const at::Device& device = at::kCPU);

/// The checkpoint folder that `path` stands for: a checkpoint folder itself or its
/// model.safetensors, the file checkpoints/best, or a run folder (its best checkpoint, else its
/// newest). Nothing when it is none of these.
/// @throws CheckpointError (66) for a run folder without an undamaged checkpoint
[[nodiscard]] std::optional<std::filesystem::path> resolve_checkpoint(
    const std::filesystem::path& path);

/// hex xxh3 over names and values of all weights, adapters included: equal on ranks that start
/// alike.
[[nodiscard]] std::string hash_weights(models::TwoTower& model);

}  // namespace triphase::trainer
