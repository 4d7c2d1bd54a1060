// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/global_contrastive_loss.hpp"
#include "models/two_tower.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Which pairs belong together; see dist::ContrastivePairs.
struct PairIds {
  at::Tensor positive;  ///< [b] int64; undefined where each pair is alone
  at::Tensor negative;  ///< [b] int64; undefined unless loss.negatives = "site"
};

/// The loss that the [loss] table describes, at the model's log-scale and bias.
/// @param image, text [b,E] unit rows, float32 or float64; b may differ between ranks
/// @return 0-dim, the same on every rank, with a graph. Collective over group in forward and in
///         backward.
[[nodiscard]] at::Tensor contrast(models::TwoTower& model, const at::Tensor& image,
                                  const at::Tensor& text, const PairIds& ids,
                                  const LossOptions& loss, dist::ProcessGroup& group);

}  // namespace triphase::trainer
