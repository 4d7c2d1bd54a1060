// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/weights.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Parameters that share a learning rate and a weight decay.
struct OptimizerGroup {
  std::string
      name;  ///< "image", "text", "heads" or "scale", with " B factors" and " without decay" added
  double lr = 0;  ///< before the schedule's factor
  double weight_decay = 0;
  std::vector<std::int64_t> members;  ///< into the parameters, rising
};

/// What one update did.
struct UpdateReport {
  double grad_norm = 0;     ///< before clipping
  bool is_skipped = false;  ///< the norm was not finite: nothing changed
};

/// AdamW with decoupled decay over the parameters that train:
///   m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,
///   p = p - lr wd p - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps).
/// Weights of two and more dimensions decay; biases, norms and the log-scale do not. Gradients are
/// taken as they are (summed over the ranks, the same bits on each), so every rank makes the same
/// update. Source: Loshchilov and Hutter, Decoupled Weight Decay, 2019, algorithm 2;
/// torch.optim.AdamW for the order of operations; Hayou et al., LoRA+, 2024, for the ratio of the B
/// factors' learning rate.
class Optimizer {
 public:
  Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters, OptimizerOptions options);

  /// Clips and updates. Every parameter has a gradient. Purely local.
  UpdateReport update(double lr_factor);

  /// Moments as exp_avg.<name> and exp_avg_sq.<name>, and the count of updates as `step`.
  [[nodiscard]] models::NamedTensors state() const;
  /// @throws CheckpointError naming what is missing, extra or of another shape; nothing has changed
  /// then
  void load_state(const models::NamedTensors& tensors, const std::string& source);

  [[nodiscard]] const std::vector<OptimizerGroup>& groups() const { return groups_; }
  [[nodiscard]] std::int64_t num_updates() const { return num_updates_; }

 private:
  [[nodiscard]] std::vector<at::Tensor> checked_gradients() const;

  std::vector<std::pair<std::string, at::Tensor>> parameters_;
  OptimizerOptions options_;
  std::vector<OptimizerGroup> groups_;
  std::vector<at::Tensor> exp_avg_;
  std::vector<at::Tensor> exp_avg_sq_;
  std::int64_t num_updates_ = 0;
};

/// Which part of the network a parameter belongs to: "image", "text", "heads" or "scale".
[[nodiscard]] std::string_view parameter_part(std::string_view name);

}  // namespace triphase::trainer
