// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/joined_rows.hpp"

#include <ATen/ATen.h>

namespace triphase::trainer {
namespace {

constexpr at::Tensor models::Embeddings::*kOutputs[] = {
    &models::Embeddings::image, &models::Embeddings::text, &models::Embeddings::phenotype_logits};

}  // namespace

JoinedRows::JoinedRows(const models::Embeddings& own, dist::ProcessGroup& group) : group_(group) {
  for (const auto output : kOutputs) {
    const at::Tensor& rows = own.*output;
    if (rows.defined()) all_.*output = join(rows.detach()).requires_grad_(rows.requires_grad());
  }
}

at::Tensor JoinedRows::join(const at::Tensor& rows) const {
  if (!rows.defined()) return rows;
  // A group of one returns its input, which must not become a leaf of two graphs.
  return group_.num_ranks() > 1 ? group_.all_gather(rows.contiguous())->wait() : rows.clone();
}

void JoinedRows::hand_back_gradients(models::Embeddings& own) const {
  for (const auto output : kOutputs) {
    at::Tensor& rows = own.*output;
    if (!rows.defined() || !(all_.*output).grad().defined()) continue;
    rows.mutable_grad() =
        (all_.*output).grad().narrow(0, group_.rank() * rows.size(0), rows.size(0));
  }
}

}  // namespace triphase::trainer
