// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "dist/process_group.hpp"
#include "trainer/run_config.hpp"

#include <array>
#include <cstdint>
#include <string>

namespace triphase::trainer {

struct StepBenchmarkOptions {
  std::string preset = "merlin_small";
  std::string part = "both";                          ///< "image" or "text": this tower alone
  std::string method = "full";                        ///< or "peft" (on conv2, query, value)
  std::int64_t rank = 2;                              ///< of the adapters
  std::string batch_norm = "frozen";                  ///< as model.batch_norm
  std::int64_t pairs = 8;                             ///< per rank
  std::array<std::int64_t, 3> volume_shape{56, 40, 32};
  std::int64_t report_tokens = 64;
  std::int64_t iterations = 5;                        ///< after one that is not counted
  bool with_operators = false;                        ///< one step more, to see what takes the time
  PrecisionOptions precision;
};

/// Median seconds of the phases of a training step on synthetic pairs:
/// {forward, loss, backward, reduce, optimizer, step, pairs_per_second, bytes_reduced} and the process's greatest
/// resident memory so far (peak_rss_mib), on the threads that LibTorch has been given. One tower alone has no
/// contrast: its loss is the sum of its projections. With options.with_operators also `operators`, the ATen
/// operators of one further step, each {name, calls, seconds} without what it calls, the longest first.
/// Collective over group.
[[nodiscard]] Json bench_step(const StepBenchmarkOptions& options, dist::ProcessGroup& group);

/// Reads every sample of a cache once through the loader, in shuffled order:
/// {volumes, seconds, volumes_per_second, mib_per_second}. Purely local.
[[nodiscard]] Json bench_data(const std::string& cache_folder, std::int64_t batch_size, int num_workers);

}  // namespace triphase::trainer
