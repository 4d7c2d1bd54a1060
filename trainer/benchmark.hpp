// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "dist/process_group.hpp"
#include "trainer/run_config.hpp"

#include <c10/core/Device.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

namespace triphase::trainer {

struct StepBenchmarkOptions {
  std::string preset = "merlin_small";
  std::string part = "both";                          ///< "image" or "text": this tower alone
  std::string method = "full";                        ///< or "peft" (on conv2, query, value)
  std::int64_t rank = 2;                              ///< of the adapters
  std::string batch_norm = "frozen";                  ///< as model.batch_norm
  std::int64_t pairs = 8;                             ///< per rank
  std::int64_t micro_pairs = 0;                       ///< of both towers: as batch.micro_pairs
  std::array<std::int64_t, 3> volume_shape{56, 40, 32};
  std::int64_t report_tokens = 64;
  std::int64_t iterations = 5;                        ///< after one that is not counted
  bool with_operators = false;                        ///< one step more, to see what takes the time
  PrecisionOptions precision;
  at::Device device = at::kCPU;                       ///< of set_up_torch()
  DistributedOptions distributed;                     ///< how gradients are reduced
  /// Where each rank leaves rank-<r>.safetensors of a pass in evaluation mode before the first step: weights.<name>,
  /// batch.volumes, batch.tokens, batch.mask, and gradient.<name> summed over the ranks. Empty: nowhere.
  std::filesystem::path save_to;
};

/// Median seconds of the phases of a training step on synthetic pairs:
/// {forward, loss, backward, reduce, optimizer, step, pairs_per_second, bytes_reduced, reduce_seconds} and the process's greatest
/// resident memory so far (peak_rss_mib), on a GPU also the most that tensors took of its memory in a timed
/// step (peak_gpu_mib), on the threads that LibTorch has been given. One tower alone has no
/// contrast: its loss is the sum of its projections. With options.with_operators also `operators`, the ATen
/// operators of one further step, each {name, calls, seconds} without what it calls, the longest first.
/// Collective over group.
[[nodiscard]] Json bench_step(const StepBenchmarkOptions& options, dist::ProcessGroup& group);

}  // namespace triphase::trainer
