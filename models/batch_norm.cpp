// SPDX-License-Identifier: Apache-2.0
#include "models/batch_norm.hpp"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <utility>

#include "base/error.hpp"
#include "models/precision.hpp"
#include "models/recompute.hpp"
#include "models/sync_batch_norm.hpp"

namespace triphase::models {
namespace {
constexpr double kEpsilon = 1e-5;
constexpr double kMomentum = 0.1;

/// torch divides by zero without a word: the weights would be NaN a step later.
void check_has_variance(std::int64_t num_values, const char* where, const char* key) {
  TRIPHASE_CHECK(DataError, num_values > 1, "BatchNorm sees ", num_values, " value a channel in ", where,
                 ", which has no variance. Raise ", key,
                 " or the size of the volumes, or set model.batch_norm to 'frozen'.");
}

}  // namespace

BatchNormImpl::BatchNormImpl(std::int64_t channels) {
  weight = register_parameter("weight", torch::ones({channels}));
  bias = register_parameter("bias", torch::zeros({channels}));
  running_mean = register_buffer("running_mean", torch::zeros({channels}));
  running_var = register_buffer("running_var", torch::ones({channels}));
  num_batches_tracked = register_buffer("num_batches_tracked", torch::zeros({}, at::kLong));
}

void BatchNormImpl::set_mode(BatchNormMode mode, GatherRows gather) {
  mode_ = mode;
  gather_ = std::move(gather);
}

bool BatchNormImpl::uses_batch_statistics() const {
  return mode_ != BatchNormMode::kFrozen && is_training();
}

ChannelAffine BatchNormImpl::running_affine() {
  const auto make = [this]() -> KeptResult::Tensors {
    const at::Tensor scale = widened(weight) * at::rsqrt(widened(running_var) + kEpsilon);
    return {scale, at::addcmul(widened(bias), widened(running_mean), scale, /*value=*/-1)};
  };
  const bool is_frozen = !weight.requires_grad() && !bias.requires_grad();
  const KeptResult::Tensors made =
      is_frozen ? kept_affine_.get({weight, bias, running_mean, running_var}, 0, make) : make();
  return {made[0], made[1]};
}

at::Tensor BatchNormImpl::forward(const at::Tensor& x) {
  const bool batch_statistics = uses_batch_statistics();
  if (batch_statistics && mode_ == BatchNormMode::kSync) return forward_sync(x);
  if (batch_statistics) check_has_variance(x.numel() / x.size(1), "this rank's batch", "batch.micro_pairs");
  const bool moves = batch_statistics && in_counted_pass();
  const bool cudnn = at::globalContext().userEnabledCuDNN();
  if (batch_statistics && !moves)
    return at::batch_norm(x, weight, bias, {}, {}, /*training=*/true, kMomentum, kEpsilon, cudnn);
  if (moves) {
    num_batches_tracked.add_(1);
    // torch's kernel changes them below without a new version, by which running_affine() knows.
    running_mean.unsafeGetTensorImpl()->bump_version();
    running_var.unsafeGetTensorImpl()->bump_version();
  }
  return at::batch_norm(x, weight, bias, running_mean, running_var, batch_statistics, kMomentum,
                        kEpsilon, cudnn);
}

at::Tensor BatchNormImpl::forward_sync(const at::Tensor& x) {
  TRIPHASE_CHECK(InternalError, gather_ != nullptr,
                 "BatchNorm is to share its batch, and nobody told it with whom");
  const JointStatistics joint = join_statistics(x, gather_);
  check_has_variance(static_cast<std::int64_t>(joint.count), "the whole batch", "batch.global_pairs");
  if (in_counted_pass()) {
    const at::NoGradGuard no_grad;
    const at::Tensor unbiased = joint.variance * (joint.count / (joint.count - 1));
    num_batches_tracked.add_(1);
    running_mean.mul_(1 - kMomentum).add_(joint.mean, kMomentum);
    running_var.mul_(1 - kMomentum).add_(unbiased, kMomentum);
  }
  return normalise_jointly(x, weight, bias, joint, gather_, kEpsilon);
}

}  // namespace triphase::models
