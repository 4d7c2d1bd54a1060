// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/batch_loader.hpp"
#include "dist/gradient_reducer.hpp"
#include "dist/process_group.hpp"
#include "models/two_tower.hpp"
#include "trainer/loop/contrast.hpp"
#include "trainer/loop/stragglers.hpp"
#include "trainer/loop/tower_passes.hpp"
#include "trainer/optim/optimizer.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Seconds of one step by what they went into. `data` is the loop's to fill.
struct StepSeconds {
  double data = 0;
  double forward = 0;   ///< the towers' first pass
  double loss = 0;      ///< forward and backward
  double backward = 0;  ///< the towers', with what is run again
  double reduce = 0;          ///< gradients were on their way: in backward, the rest exposed
  double reduce_exposed = 0;  ///< the step waited for them
  double optimizer = 0;
};

/// What one step did; equal on every rank but for the seconds.
struct StepReport {
  double loss = 0;  ///< contrast plus weighted phenotype loss, over the global batch
  double contrastive_loss = 0;
  double phenotype_loss = 0;  ///< not weighted; 0 when off
  double temperature = 0;     ///< that the step's loss was computed with
  std::optional<double> logit_bias;  ///< likewise; siglip alone
  double grad_norm = 0;       ///< before clipping; NaN when the loss was not finite
  bool is_skipped =
      false;  ///< a number was not finite: weights, moments and statistics are as before
  std::int64_t bytes_reduced = 0;
  std::int64_t bytes_exchanged = 0;  ///< of a federated round: sites' weights and moments, there and back
  StepSeconds seconds;
  OwnSeconds own_seconds;
};

/// The reducer that [distributed] asks for.
[[nodiscard]] dist::GradientReducerOptions reducer_options(const DistributedOptions& options);

/// One update over the global batch: encode (in micro batches), contrast, backward, sum over ranks, clip, AdamW,
/// clamp. Holds references; everything must outlive it. The reducer must have been made over the
/// optimizer's parameters.
class TrainStep {
 public:
  /// Lets a "sync" BatchNorm of the model span the group from here on.
  TrainStep(models::TwoTower& model, dist::ProcessGroup& group, Optimizer& optimizer,
            dist::GradientReducer& reducer, const RunConfig& config);

  /// @param batch this rank's pairs, the same number on every rank
  /// @param step number of the step, one of the keys of dropout
  /// Collective over group; a failure of one rank is thrown on all.
  [[nodiscard]] StepReport run(const data::Batch& batch, double lr_factor, std::int64_t step);

 private:
  void forward_and_loss(const data::Batch& batch, std::int64_t step, StepReport& report);
  void loss_and_its_backward(const models::Embeddings& embeddings, const PairIds& ids,
                             const at::Tensor& labels, dist::ProcessGroup& group,
                             StepReport& report);
  void ordered_loss_and_its_backward(models::Embeddings& embeddings, const data::Batch& batch,
                                     StepReport& report);
  void average_statistics();

  models::TwoTower& model_;
  dist::ProcessGroup& group_;
  Optimizer& optimizer_;
  dist::GradientReducer& reducer_;
  const RunConfig& config_;
  TowerPasses passes_;
  std::unique_ptr<dist::ProcessGroup> alone_;  ///< this rank by itself; under "ordered"
  std::vector<at::Tensor> statistics_;  ///< BatchNorm's buffers, which a skip puts back; empty when
                                        ///< frozen
};

}  // namespace triphase::trainer
