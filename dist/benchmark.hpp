// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dist/process_group.hpp"

namespace triphase::dist {

/// Source of the definitions: nccl-tests, doc/PERFORMANCE.md.
struct CollectiveTiming {
  std::string operation;   ///< "all_reduce", "all_gather", "reduce_scatter", "broadcast"
  std::int64_t bytes = 0;  ///< of the tensor; of all ranks' rows together for gather and scatter
  double seconds = 0;      ///< median over the iterations, of the slowest rank
  double algorithm_bandwidth = 0;  ///< bytes / seconds, in bytes per second
  double bus_bandwidth = 0;  ///< that times 2(n-1)/n (all_reduce), (n-1)/n (gather, scatter), 1
};

/// Times each collective on float32 for each size (rounded up to whole rows for every rank), after
/// one run to warm up. Collective over group.
[[nodiscard]] std::vector<CollectiveTiming> bench_collectives(
    ProcessGroup& group, const std::vector<std::int64_t>& sizes_bytes, int iterations,
    const at::Device& device = at::kCPU);

/// Bytes per second that each rank copies from memory to memory while all of them do: what a bus
/// bandwidth on one node cannot exceed, where every byte is copied once. Collective over group.
[[nodiscard]] double copy_bandwidth(ProcessGroup& group, int iterations);

struct LossBenchmarkOptions {
  std::int64_t pairs_per_rank = 1024;
  std::int64_t width = 512;
  std::int64_t tile = 0;  ///< of ContrastiveLossOptions
  int iterations = 5;
  at::Device device = at::kCPU;  ///< that the rows are on
  bool with_dense = true;  ///< two matrices of b x B logits each, and as much for their gradients
};

struct LossTiming {
  std::int64_t global_pairs = 0;
  double tiled_seconds = 0;  ///< global_contrastive_loss forward and backward: median, slowest rank
  double dense_seconds = 0;  ///< dense_contrastive_loss likewise; 0 without it
  /// Taken beyond the inputs at most, gradients included: resident, or of the GPU's memory. 0: unknown
  double tiled_bytes = 0;
  double dense_bytes = 0;
  double tiled_loss = 0;
  double dense_loss = 0;  ///< summed over the ranks
};

/// Times both losses in turn on random unit rows [pairs_per_rank, width] float32, the scale at
/// 1/0.07, after a first run of each, which measures memory. Collective over group.
[[nodiscard]] LossTiming bench_loss(ProcessGroup& group, const LossBenchmarkOptions& options);

/// The usual way to compute the same loss: both sides gathered with gradient, two b x B matrices of
/// logits in memory. Returns this rank's part: the sum over ranks is L, and so for the gradients.
/// Collective over group in forward and backward. Source: open_clip, loss.py, local_loss with
/// gather_with_grad.
[[nodiscard]] at::Tensor dense_contrastive_loss(const at::Tensor& image, const at::Tensor& text,
                                                const at::Tensor& log_scale, ProcessGroup& group);

}  // namespace triphase::dist
