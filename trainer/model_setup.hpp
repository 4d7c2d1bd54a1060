// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

namespace triphase::trainer {

/// The network of model.preset with its batch-norm mode, recomputation, dtype and memory format, and the
/// weights of model.weights: "random" (keyed by run.seed), a .safetensors file, a folder with
/// model.safetensors, a checkpoint folder, or a run folder (its best checkpoint). Adapters that a checkpoint
/// brings are merged, so that the model takes new ones. Purely local.
/// @throws ConfigError, CheckpointError
[[nodiscard]] models::TwoTower build_model(const RunConfig& config);

/// The same network with the constructor's weights: for load_model_weights() or read_checkpoint() to fill.
[[nodiscard]] models::TwoTower make_bare_model(const RunConfig& config);

/// Fills a bare model for evaluation from `checkpoint`, as build_model() takes model.weights ("" is
/// model.weights itself); adapters stay beside their weights. The base under a PEFT checkpoint is the one its
/// own config.toml names. @throws ConfigError, CheckpointError
void load_model_weights(models::TwoTower& model, const RunConfig& config,
                        const std::string& checkpoint);

/// The checkpoint that `path` stands for: itself when it is one, a run folder's best one (the newest when
/// none is the best), or nothing when `path` is neither. @throws CheckpointError (66) for a run folder whose
/// checkpoints are all incomplete or damaged
[[nodiscard]] std::string resolve_checkpoint(const std::string& path);

/// Volumes in the dtype and memory format of the run. @param volumes [B,1,X,Y,Z]
[[nodiscard]] at::Tensor model_input(const at::Tensor& volumes, const PrecisionOptions& precision);

/// bfloat16 autocast while it lives when precision.compute asks for it, else nothing. Its end empties the
/// cache of cast weights, so that no later pass sees weights from before an update.
class ComputeScope {
 public:
  explicit ComputeScope(const PrecisionOptions& precision);
  ~ComputeScope();
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase::trainer
