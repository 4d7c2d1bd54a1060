// SPDX-License-Identifier: Apache-2.0
#include "models/batch_norm.hpp"

#include "models/recompute.hpp"

#include <ATen/ATen.h>
#include <torch/types.h>

namespace triphase::models {
namespace {
constexpr double kEpsilon = 1e-5;
constexpr double kMomentum = 0.1;
}  // namespace

BatchNormImpl::BatchNormImpl(std::int64_t channels) {
  weight = register_parameter("weight", torch::ones({channels}));
  bias = register_parameter("bias", torch::zeros({channels}));
  running_mean = register_buffer("running_mean", torch::zeros({channels}));
  running_var = register_buffer("running_var", torch::ones({channels}));
  num_batches_tracked = register_buffer("num_batches_tracked", torch::zeros({}, at::kLong));
}

at::Tensor BatchNormImpl::forward(const at::Tensor& x) {
  const bool batch_statistics = mode_ == BatchNormMode::kLocal && is_training();
  const bool moves = batch_statistics && in_counted_pass();
  const bool cudnn = at::globalContext().userEnabledCuDNN();
  if (batch_statistics && !moves)
    return at::batch_norm(x, weight, bias, {}, {}, /*training=*/true, kMomentum, kEpsilon, cudnn);
  if (moves) num_batches_tracked.add_(1);
  return at::batch_norm(x, weight, bias, running_mean, running_var, batch_statistics, kMomentum,
                        kEpsilon, cudnn);
}

}  // namespace triphase::models
