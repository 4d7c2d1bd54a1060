// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/image_tower.hpp"

namespace triphase::models {

/// Batch normalisation over channels (dimension 1), eps 1e-5, momentum 0.1. In training mode under
/// kLocal it normalises with this batch's statistics and moves the running ones, once per pass with a
/// backward: neither recomputation nor a pass without gradients moves them. Otherwise it uses the
/// running ones. Source: torch's BatchNorm3d; Merlin's inflate_batch_norm.
class BatchNormImpl : public torch::nn::Module {
 public:
  explicit BatchNormImpl(std::int64_t channels);
  [[nodiscard]] at::Tensor forward(const at::Tensor& x);
  void set_mode(BatchNormMode mode) { mode_ = mode; }

  at::Tensor weight;
  at::Tensor bias;
  at::Tensor running_mean;
  at::Tensor running_var;
  at::Tensor num_batches_tracked;

 private:
  BatchNormMode mode_ = BatchNormMode::kFrozen;
};
TORCH_MODULE(BatchNorm);

}  // namespace triphase::models
