// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace triphase::dist {

/// Sums leaves that come one at a time over the complete binary tree whose leaves they are, in their
/// order or in the reverse (an addition's operands may change places). Holds one partial sum for each
/// level. See Note [Ordered sums].
class TreeSum {
 public:
  /// @param leaf tensors of the same shapes and dtypes each time; copied
  void add(const std::vector<at::Tensor>& leaf);
  [[nodiscard]] std::int64_t num_leaves() const { return num_leaves_; }
  /// The sum; empties the tree. @throws InternalError unless num_leaves() is a power of two
  [[nodiscard]] std::vector<at::Tensor> take();

 private:
  std::vector<std::optional<std::vector<at::Tensor>>> levels_;
  std::int64_t num_leaves_ = 0;
};

/// What a sum over ranks cost one of them.
struct TreeSumCost {
  std::int64_t bytes = 0;  ///< given to the exchanges
  double start_seconds = 0;
  double end_seconds = 0;
};

/// Sums `flat` in place over the complete binary tree whose leaves are the ranks: at each level a
/// rank exchanges its sum with its partner's. Equal bits on every rank.
/// @throws InternalError unless the number of ranks is a power of two. Collective over group.
TreeSumCost sum_over_rank_tree(ProcessGroup& group, const at::Tensor& flat);

}  // namespace triphase::dist
