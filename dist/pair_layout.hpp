// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <vector>

#include "dist/contrastive_tile.hpp"
#include "dist/global_contrastive_loss.hpp"

namespace triphase::dist {

/// Where every rank's pairs stand in the global batch, and which belong together.
struct PairLayout {
  std::vector<std::int64_t> counts;  ///< of each rank
  std::int64_t first_row = 0;        ///< of this rank
  std::int64_t total = 0;            ///< B
  std::int64_t largest = 0;          ///< of the counts: what travels has as many rows
  PairKeys keys;                     ///< under kLocal of this rank's pairs alone

  [[nodiscard]] std::int64_t first_of(int rank) const;
  [[nodiscard]] bool is_even() const { return total == largest * std::ssize(counts); }
};

/// Collective over group.
/// @throws InternalError when there is no pair on any rank
[[nodiscard]] PairLayout make_pair_layout(const ContrastivePairs& pairs, Negatives negatives,
                                          ProcessGroup& group);

/// Calls body(block) with the texts that this rank's rows are compared with.
/// @param own [b,E] contiguous  @param gathered what all_texts() returned, under kGather
/// Collective over group under kRing.
using BlockBody = std::function<void(const ColumnBlock& block)>;
void for_each_block(const PairLayout& layout, const ContrastiveLossOptions& options,
                    const at::Tensor& own, const at::Tensor& gathered, ProcessGroup& group,
                    const BlockBody& body);
/// Likewise with zeros to add a block's gradient to.
/// @return [b,E] the sum over the ranks for this rank's own texts. Collective over group.
using GradientBody = std::function<void(const ColumnBlock& block, const at::Tensor& text_grad)>;
[[nodiscard]] at::Tensor sum_block_gradients(const PairLayout& layout,
                                             const ContrastiveLossOptions& options,
                                             const at::Tensor& own, const at::Tensor& gathered,
                                             ProcessGroup& group, const GradientBody& body);
/// [num_ranks * largest, E] under kGather, else nothing. Collective over group.
[[nodiscard]] at::Tensor all_texts(const PairLayout& layout, const ContrastiveLossOptions& options,
                                   const at::Tensor& own, ProcessGroup& group);

}  // namespace triphase::dist
