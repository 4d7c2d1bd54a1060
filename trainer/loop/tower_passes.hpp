// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "data/batch_loader.hpp"
#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

struct TowerPassOptions {
  std::int64_t micro_pairs = 0;  ///< pairs of a micro batch, the last may have fewer; 0: all in one
  bool with_phenotypes = false;
  PrecisionOptions precision;
  std::int64_t seed = 0;  ///< keys dropout, together with step and sample
};

/// Both towers over the pairs of one rank and step, micro batch by micro batch, however many pairs
/// there are: activations of one micro batch exist at a time. See Note [Gradient caching]. Holds
/// the model, which must outlive it. Purely local, but for what the towers do (a "sync" BatchNorm).
class TowerPasses {
 public:
  TowerPasses(models::TwoTower& model, TowerPassOptions options);

  /// First pass. What it returns are leaves, [b,...] in batch order; those that depend on a trained
  /// parameter want a gradient, and a loss formed of them gives it to them.
  /// @param step keys dropout
  [[nodiscard]] models::Embeddings encode(const data::Batch& batch, std::int64_t step);

  /// Second pass: carries the leaves' gradients on to the parameters, to which each micro batch
  /// adds its part.
  /// @param before_last called when the backward of one micro batch alone remains, which then
  ///                    completes every gradient
  /// @param after_each called after each micro batch's backward, from the last to the first
  void backward(const std::function<void()>& before_last = {},
                const std::function<void()>& after_each = {});

 private:
  [[nodiscard]] models::Embeddings forward(std::int64_t micro_batch, bool is_replay);
  void backward_of(const models::Embeddings& outputs, std::int64_t micro_batch) const;

  models::TwoTower& model_;
  TowerPassOptions options_;
  bool trains_image_;
  bool trains_text_;
  data::Batch batch_;
  std::int64_t step_ = 0;
  std::int64_t micro_pairs_ = 0;
  std::int64_t num_micro_batches_ = 0;
  models::Embeddings leaves_;
  models::Embeddings kept_;  ///< of the last micro batch, with its graph
};

}  // namespace triphase::trainer
