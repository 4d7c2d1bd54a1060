// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dist/gradient_reducer.hpp"
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
///
/// Sharded, a rank holds the moments of the reducer's own_slices() and updates those elements, and
/// the new values are gathered. Equal to the unsharded update to rounding: ATen's kernel rounds the
/// last elements of a tensor, and so of a slice, otherwise than those before, and the norm's squares
/// are added rank by rank.
class Optimizer {
 public:
  Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters, OptimizerOptions options);
  /// Sharded. @param shards a sharded reducer of the same parameters, which must outlive it
  Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters, OptimizerOptions options,
            dist::GradientReducer& shards);

  /// Clips and updates. Every parameter has a gradient. Purely local; sharded: collective over the
  /// reducer's group.
  UpdateReport update(double lr_factor);

  /// Moments as exp_avg.<name> and exp_avg_sq.<name>, and the count of updates as `step`; the same
  /// sharded or not. Purely local; sharded: collective over the reducer's group, and ranks other than
  /// 0 get nothing.
  [[nodiscard]] models::NamedTensors state() const;
  [[nodiscard]] bool is_sharded() const { return shards_ != nullptr; }
  /// @throws CheckpointError naming what is missing, extra or of another shape; nothing has changed
  /// then
  void load_state(const models::NamedTensors& tensors, const std::string& source);
  /// Gives every rank of `node` the state of its rank 0. Not sharded: every rank holds all of it.
  /// Collective over node.
  void broadcast_state(dist::ProcessGroup& node);

  [[nodiscard]] const std::vector<OptimizerGroup>& groups() const { return groups_; }
  [[nodiscard]] std::int64_t num_updates() const { return num_updates_; }

  /// This rank's moments in place, as many and in the same order on ranks of equal slices.
  [[nodiscard]] std::vector<at::Tensor> moments() const;
  /// For who changes the moments. @param count 0 or more
  void set_num_updates(std::int64_t count) { num_updates_ = count; }

 private:
  Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters, OptimizerOptions options,
            dist::GradientReducer* shards);
  [[nodiscard]] const at::Tensor& parameter_of(const dist::ParameterSlice& piece) const;
  [[nodiscard]] at::Tensor own_part(std::size_t piece, const at::Tensor& tensor) const;
  [[nodiscard]] std::vector<at::Tensor> checked_gradients() const;
  [[nodiscard]] double norm_of(const std::vector<at::Tensor>& gradients) const;
  [[nodiscard]] std::vector<at::Tensor> whole(const std::vector<at::Tensor>& moments) const;

  std::vector<std::pair<std::string, at::Tensor>> parameters_;
  OptimizerOptions options_;
  std::vector<OptimizerGroup> groups_;
  dist::GradientReducer* shards_;  ///< null: not sharded
  std::vector<dist::ParameterSlice> pieces_;  ///< what this rank updates; not sharded: everything
  std::vector<std::vector<std::int64_t>> pieces_of_group_;
  std::vector<at::Tensor> exp_avg_;  ///< of each piece
  std::vector<at::Tensor> exp_avg_sq_;
  std::int64_t num_updates_ = 0;
};

/// Which part of the network a parameter belongs to: "image", "text", "heads" or "scale".
[[nodiscard]] std::string_view parameter_part(std::string_view name);

}  // namespace triphase::trainer
