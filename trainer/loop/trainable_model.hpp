// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapter_plan.hpp"
#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

struct TrainableModel {
  models::TwoTower model{nullptr};
  models::AdapterPlan plan;
};

/// build_base_model(), adapted and frozen as config.adapt says, the log-scale (and siglip's bias) at its
/// first value, in config.precision and training mode. Its tensors are not replaced afterwards. Purely local.
/// @throws ConfigError, CheckpointError
[[nodiscard]] TrainableModel build_trainable_model(const RunConfig& config);
/// Likewise of a base model that is there already.
[[nodiscard]] TrainableModel make_trainable(const RunConfig& config, models::TwoTower base,
                                            const at::Device& device = at::kCPU);

}  // namespace triphase::trainer
