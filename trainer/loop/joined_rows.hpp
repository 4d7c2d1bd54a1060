// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"
#include "models/two_tower.hpp"

namespace triphase::trainer {

/// All ranks' embeddings on every rank, so that each forms the loss of the whole batch by itself,
/// with the same bits at any number of ranks.
class JoinedRows {
 public:
  /// @param own leaves, [b,...], the same b on every rank. Collective over group.
  JoinedRows(const models::Embeddings& own, dist::ProcessGroup& group);

  /// Leaves, [num_ranks*b,...] in rank order; those of `own` that want a gradient want one here.
  [[nodiscard]] const models::Embeddings& all() const { return all_; }
  /// Rows that belong to the pairs (ids, labels), [b,...] -> [num_ranks*b,...]; undefined stays so.
  /// Collective over group.
  [[nodiscard]] at::Tensor join(const at::Tensor& rows) const;
  /// After a backward of that loss: gives `own` their rows of the gradients. Purely local.
  void hand_back_gradients(models::Embeddings& own) const;

 private:
  dist::ProcessGroup& group_;
  models::Embeddings all_;
};

}  // namespace triphase::trainer
