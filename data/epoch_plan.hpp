// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace triphase::data {

/// Inputs of plan_epoch(). Plain numbers, so that any rank can be computed anywhere.
struct EpochPlanOptions {
  std::int64_t num_samples = 0;   ///< samples in the split, > 0
  std::int64_t global_pairs = 0;  ///< pairs of one step over all ranks, > 0, a multiple of num_ranks
  int rank = 0;                   ///< in [0, num_ranks)
  int num_ranks = 1;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;         ///< >= 0
};

/// Positions (into the split's sample list) that one rank reads in one epoch, in reading order.
///
/// Step s takes the global batch order[s*G, (s+1)*G) of one permutation keyed by (seed, epoch); rank r reads
/// its r-th contiguous slice. So the global batch of a step, in rank order, is the same for every number of
/// ranks, and a run may be resumed on another one. Samples that do not fill a global batch are left out;
/// another epoch leaves out others.
///
/// @return [num_steps * global_pairs / num_ranks] positions in [0, num_samples)
/// @throws ConfigError when no global batch fits, or an option is out of range. Purely local.
[[nodiscard]] std::vector<std::int64_t> plan_epoch(const EpochPlanOptions& options);

/// num_samples / global_pairs. @throws ConfigError when that is 0
[[nodiscard]] std::int64_t steps_per_epoch(std::int64_t num_samples, std::int64_t global_pairs);

}  // namespace triphase::data
