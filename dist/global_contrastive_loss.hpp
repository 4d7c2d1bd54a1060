// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "dist/process_group.hpp"

namespace triphase::dist {

enum class ContrastiveLossKind { kInfonce, kSiglip };
/// What a pair is compared with: all pairs, those of its rank, or those of its negative_ids.
enum class Negatives { kGlobal, kLocal, kGroup };
/// How texts reach the ranks: all of them at once, or a rank's at a time from neighbour to
/// neighbour.
enum class TextTransport { kGather, kRing };

struct ContrastiveLossOptions {
  /// Rows and columns of logits held at once, per rank. 0: 1024, on a GPU 4096 (there every operation on a tile is a
  /// kernel to launch).
  std::int64_t tile = 0;
  ContrastiveLossKind kind = ContrastiveLossKind::kInfonce;
  Negatives negatives = Negatives::kGlobal;
  TextTransport transport = TextTransport::kGather;
};

/// One rank's pairs; b may differ between ranks and be 0 on some.
struct ContrastivePairs {
  at::Tensor image;         ///< [b,E] unit rows, float32 or float64; pair i is row i
  at::Tensor text;          ///< [b,E] same dtype
  at::Tensor log_scale;     ///< 0-dim, same dtype; the caller has clamped it
  at::Tensor bias;          ///< 0-dim, same dtype; kSiglip alone
  at::Tensor positive_ids;  ///< [b] int64, host; undefined: a pair's only positive is itself
  at::Tensor negative_ids;  ///< [b] int64, host; kGroup alone
};

/// An exact contrastive loss over the global batch without ever holding b x B logits. With
/// S = exp(log_scale) X Y^T, candidates A(i) = the pairs that `negatives` lets i be compared with
/// (itself among them), positives P(i) = those of A(i) with i's positive id, B = all pairs:
///   kInfonce  L = 1/(2B) sum_i [logsumexp_A(i) S_ij - mean_P(i) S_ij] + the same of the columns
///   kSiglip   L = 1/B sum_i sum_A(i) log(1 + exp(-z_ij (S_ij + bias))), z = 1 on P(i), else -1
/// Rank r owns image rows; texts travel. Gradients are scaled so that summing every parameter's
/// gradient over the ranks gives the gradient of L itself: log_scale and bias included.
///
/// @return 0-dim: L, the same bits on every rank, with a graph to image, text, log_scale and bias
/// @throws CommError when ranks disagree on width or dtype. Collective over group in forward and in
///         backward; the group must outlive the graph.
/// Source: docs/numerics.md, "Global contrast"; Note [One-sided loss]. Several positives: Khosla et
/// al. 2020 (SupCon), eq. 2; Yang et al. 2022 (UniCL), eq. 2 and 3. Sigmoid: Zhai et al. 2023,
/// eq. 1.
[[nodiscard]] at::Tensor global_contrastive_loss(const ContrastivePairs& pairs, ProcessGroup& group,
                                                 const ContrastiveLossOptions& options = {});

/// The usual case: InfoNCE, one positive a pair.
[[nodiscard]] at::Tensor global_contrastive_loss(const at::Tensor& image, const at::Tensor& text,
                                                 const at::Tensor& log_scale, ProcessGroup& group,
                                                 const ContrastiveLossOptions& options = {});

/// Every rank's rows in rank order; gradients flow back by reduce-scatter (sum).
/// @param rows [b,...] contiguous, the same b on every rank
/// @return [num_ranks*b,...]. Collective over group in forward and in backward.
[[nodiscard]] at::Tensor gather_with_gradient(const at::Tensor& rows, ProcessGroup& group);

}  // namespace triphase::dist
