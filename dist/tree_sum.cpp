// SPDX-License-Identifier: Apache-2.0
#include "dist/tree_sum.hpp"

#include <bit>
#include <utility>

#include "base/error.hpp"

// Note [Ordered sums]
// A sum of rounded numbers depends on the order of its additions. Here the order is that of one
// complete binary tree over the micro batches of the global batch, whoever computes them. With as
// many micro batches a rank as fill a subtree, a rank sums its subtree by itself (TreeSum), and the
// ranks the rest of it (sum_over_rank_tree): 1, 2, 4 or 8 ranks make the same additions.
// A rank takes its micro batches from the last to the first (see Note [Gradient caching]). That
// gives the same tree, as their number is a power of two and a + b = b + a to the last bit.

namespace triphase::dist {
namespace {

void add_to(std::vector<at::Tensor>& sums, const std::vector<at::Tensor>& others) {
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i].add_(others[i]);
}

}  // namespace

void TreeSum::add(const std::vector<at::Tensor>& leaf) {
  std::vector<at::Tensor> carry;
  for (const at::Tensor& tensor : leaf) carry.push_back(tensor.clone());
  std::size_t level = 0;
  for (; level < levels_.size() && levels_[level]; ++level) {
    add_to(carry, *levels_[level]);
    levels_[level].reset();
  }
  if (level == levels_.size()) levels_.emplace_back();
  levels_[level] = std::move(carry);
  ++num_leaves_;
}

std::vector<at::Tensor> TreeSum::take() {
  TRIPHASE_CHECK(InternalError, std::has_single_bit(static_cast<std::uint64_t>(num_leaves_)), "a tree of ", num_leaves_,
                 " leaves is not complete; a power of two is");
  std::vector<at::Tensor> sum = std::move(*levels_.back());
  levels_.clear();
  num_leaves_ = 0;
  return sum;
}

TreeSumCost sum_over_rank_tree(ProcessGroup& group, const at::Tensor& flat) {
  TRIPHASE_CHECK(InternalError, std::has_single_bit(static_cast<unsigned>(group.num_ranks())), "a tree of ", group.num_ranks(),
                 " ranks is not complete; a power of two is");
  TreeSumCost cost;
  for (int distance = 1; distance < group.num_ranks(); distance *= 2) {
    const int partner = group.rank() ^ distance;
    const WorkPtr work = group.send_receive(flat, partner, partner);
    flat.add_(work->wait());
    cost.bytes += work->bytes();
    if (distance == 1) cost.start_seconds = work->start_seconds();
    cost.end_seconds = work->end_seconds();
  }
  return cost;
}

}  // namespace triphase::dist
