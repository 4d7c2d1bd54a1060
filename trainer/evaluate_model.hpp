// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

#include <string>

namespace triphase::trainer {

/// A model ready to be evaluated, and where its weights came from.
struct LoadedModel {
  models::TwoTower model{nullptr};
  std::string
      checkpoint;  ///< "run/step_00001000", a peft folder's name, a weights path, or model.weights
  std::string adapt_method;  ///< of the checkpoint or peft folder; "" without one
  std::int64_t step = -1;    ///< of the checkpoint; -1 without one
};

/// The model of `checkpoint`: a checkpoint folder, a run folder (its best checkpoint), a peft
/// folder, a weights file or folder, or "" for model.weights as it is. The base under a PEFT
/// checkpoint is config.model.weights ("random": drawn from the checkpoint's seed) and is checked
/// by hash. Under a peft folder it is the same ("random": drawn from config.run.seed) and cannot be
/// checked, for such a folder does not say what it was made on. On the host, as the files have it. Purely
/// local.
/// @throws ConfigError, CheckpointError (66 when it is not there)
[[nodiscard]] LoadedModel read_model(const RunConfig& config, const std::string& checkpoint);

/// read_model() on the device, in config.precision, evaluation mode. Purely local.
[[nodiscard]] LoadedModel load_model_for_evaluation(const RunConfig& config,
                                                    const std::string& checkpoint,
                                                    const at::Device& device = at::kCPU);

}  // namespace triphase::trainer
