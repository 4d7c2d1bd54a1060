// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

namespace triphase::trainer {

/// Binary cross-entropy of the head's first F logits (the cache's findings, in order), mean over
/// the known labels of the global batch. The gradient on each rank is its part of that mean's, so
/// that a sum over ranks is exact.
/// @param logits [b,P] float32 or float64, P >= F; @param labels [b,F] int8: 1, 0, -1 (unknown)
/// @return {this rank's part (with a graph), the whole (equal on every rank)}; both 0 when no label
/// is known. Collective over group.
struct PhenotypeLoss {
  at::Tensor local;
  double value = 0;
};
[[nodiscard]] PhenotypeLoss phenotype_loss(const at::Tensor& logits, const at::Tensor& labels,
                                           dist::ProcessGroup& group);

}  // namespace triphase::trainer
