// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace triphase::data {

/// Which samples meet in one global batch.
struct SamplerOptions {
  enum class Mode {
    kShuffle,          ///< a random order
    kPatientDistinct,  ///< no patient twice in a global batch
    kBySite            ///< each site has its share of every global batch
  };
  Mode mode = Mode::kShuffle;
  /// A site of n samples has a share in proportion to n^power: 1 its own size, 0 the same for all,
  /// between them 1 / temperature.
  double site_power = 1;
};

/// Inputs of plan_epoch(). Plain numbers, so that any rank can be computed anywhere.
struct EpochPlanOptions {
  std::int64_t num_samples = 0;   ///< samples in the split, > 0
  std::int64_t global_pairs = 0;  ///< pairs of one step over all ranks, > 0, a multiple of num_ranks
  int rank = 0;                   ///< in [0, num_ranks)
  int num_ranks = 1;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;  ///< >= 0
  SamplerOptions sampler{};
  /// Of each sample its patient (kPatientDistinct) or its site (kBySite), numbered from 0 without
  /// gaps; empty for kShuffle.
  std::vector<std::int64_t> groups{};
};

/// Positions (into the split's sample list) that one rank reads in one epoch, in reading order.
///
/// Step s takes the global batch order[s*G, (s+1)*G) of one order keyed by (seed, epoch); rank r reads its
/// r-th contiguous slice. So the global batch of a step, in rank order, is the same for every number of
/// ranks, and a run may be resumed on another one.
///
/// kShuffle: one permutation; samples that do not fill a global batch are left out, others in another epoch.
/// kPatientDistinct: as many steps as there can be with no patient twice in a batch; what does not fit is
/// left out, other samples in another epoch.
/// kBySite: as many steps as kShuffle has. After each step no site is ahead of its share of the samples so far
/// by one or more, nor behind by more than the number of the other sites less one. A site whose share is more than its samples starts again in a new order, but no sample is twice
/// in a batch; one whose share is less leaves samples out, others in another epoch.
///
/// @return [num_steps * global_pairs / num_ranks] positions in [0, num_samples)
/// @throws ConfigError when no global batch fits, or an option is out of range. Purely local.
[[nodiscard]] std::vector<std::int64_t> plan_epoch(const EpochPlanOptions& options);

/// Steps of every epoch under these options; rank, seed and epoch make no difference.
/// @throws ConfigError when that is 0, or a site has fewer samples than its share of a batch
[[nodiscard]] std::int64_t steps_per_epoch(const EpochPlanOptions& options);
/// Of kShuffle: num_samples / global_pairs.
[[nodiscard]] std::int64_t steps_per_epoch(std::int64_t num_samples, std::int64_t global_pairs);

}  // namespace triphase::data
