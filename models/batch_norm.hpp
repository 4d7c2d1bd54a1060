// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <functional>

#include "models/kept_result.hpp"

namespace triphase::models {

/// Which statistics BatchNorm normalises with in training. `kFrozen`: the running ones, which never
/// move (with kSync the only mode in which results do not depend on how the batch is split).
/// `kLocal`: those of the batch at hand. `kSync`: those of the batches of all that take part, as if
/// they were one batch. Under the last two the running statistics move once per pass that has a
/// backward: not in its replay, and not in a pass without gradients such as the first of gradient
/// caching.
enum class BatchNormMode { kFrozen, kLocal, kSync };

/// Hands one row [n] (float64, contiguous) to all that share a batch and returns everybody's rows
/// [num_sharers, n] in one fixed order, the same to all. Each sharer calls it equally often and in
/// the same order, in forward, in a replay and in backward.
using GatherRows = std::function<at::Tensor(const at::Tensor& row)>;

/// y * scale + shift by channel; both undefined: y as it is.
struct ChannelAffine {
  at::Tensor scale;  ///< [C]
  at::Tensor shift;  ///< [C]
};

/// Batch normalisation over channels (dimension 1), eps 1e-5, momentum 0.1. In evaluation it uses
/// the running statistics whatever the mode. Source: torch's BatchNorm3d; Merlin's
/// inflate_batch_norm.
class BatchNormImpl : public torch::nn::Module {
 public:
  explicit BatchNormImpl(std::int64_t channels);
  /// @throws InternalError in training under kSync without a gather;
  ///         DataError when all batches together have one value a channel
  [[nodiscard]] at::Tensor forward(const at::Tensor& x);
  void set_mode(BatchNormMode mode, GatherRows gather = {});
  /// Whether forward() now would use the statistics of its input, and not the running ones.
  [[nodiscard]] bool uses_batch_statistics() const;
  /// What forward() does where it uses the running statistics, differentiable in weight and bias.
  [[nodiscard]] ChannelAffine running_affine();

  at::Tensor weight;
  at::Tensor bias;
  at::Tensor running_mean;
  at::Tensor running_var;
  at::Tensor num_batches_tracked;

 private:
  at::Tensor forward_sync(const at::Tensor& x);

  BatchNormMode mode_ = BatchNormMode::kFrozen;
  GatherRows gather_;
  KeptResult kept_affine_;
};
TORCH_MODULE(BatchNorm);

}  // namespace triphase::models
