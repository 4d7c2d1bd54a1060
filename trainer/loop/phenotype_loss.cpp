// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/phenotype_loss.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.hpp"

namespace triphase::trainer {

PhenotypeLoss phenotype_loss(const at::Tensor& logits, const at::Tensor& labels,
                             dist::ProcessGroup& group) {
  TRIPHASE_CHECK(InternalError,
                 logits.dim() == 2 && labels.dim() == 2 && logits.size(0) == labels.size(0) &&
                     logits.size(1) >= labels.size(1),
                 "phenotype logits ", logits.sizes(), " do not fit labels ", labels.sizes());
  const at::Tensor used = logits.slice(1, 0, labels.size(1));
  const at::Tensor known = labels.ge(0).to(used.options());
  const at::Tensor truth = labels.clamp_min(0).to(used.options());
  const double num_known =
      group.all_reduce(known.sum(at::kDouble).reshape({1}), dist::ReduceOp::kSum)
          ->wait()
          .item<double>();
  const at::Tensor summed = at::binary_cross_entropy_with_logits(
      used, truth, known, /*pos_weight=*/{}, at::Reduction::Sum);
  PhenotypeLoss loss;
  loss.local = summed / std::max(num_known, 1.0);
  loss.value =
      group.all_reduce(loss.local.detach().to(at::kDouble).reshape({1}), dist::ReduceOp::kSum)
          ->wait()
          .item<double>();
  return loss;
}

}  // namespace triphase::trainer
