// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <cstdint>

namespace triphase::dist {

struct ContrastiveLossOptions {
  std::int64_t tile = 1024;  ///< rows and columns of logits held at once, per rank
};

/// Exact symmetric InfoNCE over the global batch,
///   L = 1/(2B) sum_i [ce(row i) + ce(column i)],  S = exp(log_scale) * X Y^T,  B = num_ranks * b,
/// without ever holding b x B logits: rank r owns image rows, texts are gathered, row and column
/// log-sum-exps are formed tile by tile, columns joined by all-reduces of B floats.
///
/// Gradients are scaled so that summing every parameter's gradient over the ranks gives the
/// gradient of L itself: with one rank, with three, log_scale included.
///
/// @param image [b,E] unit rows, float32 or float64, the same b on every rank; pair i is row i
/// @param text [b,E]
/// @param log_scale 0-dim, same dtype; the caller has clamped it
/// @return 0-dim: L, the same bits on every rank, with a graph to image, text and log_scale
/// @throws CommError when ranks disagree on shapes. Collective over group in forward and in backward;
///         the group must outlive the graph.
/// Source: docs/numerics.md, "Global contrast"; reference derivation in Note [One-sided loss].
[[nodiscard]] at::Tensor global_contrastive_loss(const at::Tensor& image, const at::Tensor& text,
                                                 const at::Tensor& log_scale, ProcessGroup& group,
                                                 const ContrastiveLossOptions& options = {});

/// Every rank's rows in rank order; gradients flow back by reduce-scatter (sum).
/// @param rows [b,...] contiguous, the same b on every rank
/// @return [num_ranks*b,...]. Collective over group in forward and in backward.
[[nodiscard]] at::Tensor gather_with_gradient(const at::Tensor& rows, ProcessGroup& group);

}  // namespace triphase::dist
