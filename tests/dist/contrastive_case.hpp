// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/global_contrastive_loss.hpp"
#include "tests/dist/rank_values.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

namespace triphase::test {

/// Inputs of a contrastive loss, or a rank's part of them, or their gradients, and the loss.
struct ContrastiveCase {
  at::Tensor image, text, log_scale;
  double loss = 0;
};

/// A leaf with the same values.
inline at::Tensor leaf(const at::Tensor& tensor) {
  return tensor.detach().clone().requires_grad_();
}

/// Unit rows drawn from `seed`; texts lie near their images when `noise` is small.
inline ContrastiveCase make_case(std::int64_t pairs, std::int64_t width, double scale,
                                 std::uint64_t seed, double noise = 1.0) {
  const auto rows = [&](std::uint64_t part) {
    return rank_values(0, {pairs, width}, at::kDouble, 1000 * seed + part).clamp(-1, 1) + 0.01;
  };
  const auto unit = [](const at::Tensor& t) { return t / at::linalg_vector_norm(t, 2, {1}, true); };
  const at::Tensor image = unit(rows(1));
  return {image, unit(image * (1 - noise) + rows(2) * noise),
          at::full({}, std::log(scale), at::kDouble)};
}

/// The dense formula on the joined batch, by autograd.
inline ContrastiveCase dense_reference(const ContrastiveCase& joined) {
  const at::Tensor image = leaf(joined.image);
  const at::Tensor text = leaf(joined.text);
  const at::Tensor log_scale = leaf(joined.log_scale);
  const at::Tensor logits = at::exp(log_scale) * at::matmul(image, text.t());
  const at::Tensor target = at::arange(image.size(0), at::kLong);
  const at::Tensor loss =
      0.5 * (at::cross_entropy_loss(logits, target) + at::cross_entropy_loss(logits.t(), target));
  loss.backward();
  return {image.grad(), text.grad(), log_scale.grad(), loss.item<double>()};
}

/// The loss of any kind as docs/numerics.md writes it, over whole matrices.
/// @param logits [B,B] S_ij; @param bias 0-dim for the sigmoid loss, undefined for InfoNCE
/// @param compared [B,B] bool, j in A(i); @param positive [B,B] bool, j in P(i)
inline at::Tensor dense_loss(const at::Tensor& logits, const at::Tensor& bias,
                             const at::Tensor& compared, const at::Tensor& positive) {
  const auto total = static_cast<double>(logits.size(0));
  if (bias.defined()) {
    const at::Tensor x = logits + bias;
    const at::Tensor losses = -at::log_sigmoid(at::where(positive, x, -x));
    return at::where(compared, losses, at::zeros_like(losses)).sum() / total;
  }
  const at::Tensor kept = logits.masked_fill(~compared, -std::numeric_limits<double>::infinity());
  const at::Tensor target = positive.to(logits.scalar_type()) / positive.sum(1, true);
  return (at::logsumexp(kept, {1}).sum() + at::logsumexp(kept, {0}).sum() -
          2 * (target * logits).sum()) /
         (2 * total);
}

/// This rank's rows.
inline ContrastiveCase part_of(const ContrastiveCase& joined, const dist::ProcessGroup& group) {
  const std::int64_t b = joined.image.size(0) / group.num_ranks();
  return {joined.image.narrow(0, group.rank() * b, b), joined.text.narrow(0, group.rank() * b, b),
          joined.log_scale, joined.loss};
}

/// Loss and gradients of this rank's part; the log-scale's gradient is summed over the ranks.
inline ContrastiveCase run_loss(const ContrastiveCase& part, dist::ProcessGroup& group,
                                std::int64_t tile = 1024) {
  const at::Tensor image = leaf(part.image);
  const at::Tensor text = leaf(part.text);
  const at::Tensor log_scale = leaf(part.log_scale);
  const at::Tensor loss = dist::global_contrastive_loss(image, text, log_scale, group, {tile});
  loss.backward();
  const at::Tensor scale_grad = group.all_reduce(log_scale.grad(), dist::ReduceOp::kSum)->wait();
  return {image.grad(), text.grad(), scale_grad, loss.item<double>()};
}

/// Largest absolute difference.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace triphase::test
