// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"
#include "data/cache.hpp"
#include "dist/process_group.hpp"

#include <functional>
#include <string>
#include <vector>

namespace triphase::launch {

/// How long ranks work apart before they meet (see dist::agree_during): short beside the timeout,
/// so that the longest volume fits in, too; long beside a volume, so that little time goes by in
/// waiting.
[[nodiscard]] double round_seconds(double timeout_seconds);

/// The same plan on every rank, but for `failed`, where each has what it found. Rank 0 divides the manifest; whether a shard is up to date is
/// looked at by one rank and told to all, so that file systems that show ranks different things
/// leave no shard unbuilt.
/// @param after_study called on this rank after each study looked at
/// @throws AgreedError: of kind ConfigError, DataError, IoError; CommError when ranks were given
/// different
///         specifications or manifests. Collective over group.
[[nodiscard]] data::CachePlan plan_cache_on_ranks(
    const data::CacheBuildOptions& options, dist::ProcessGroup& group, double round_seconds,
    const std::function<void()>& after_study = [] {});

/// Volumes in the stale shards that are this rank's to build.
[[nodiscard]] std::int64_t num_volumes_to_build(const data::CachePlan& plan, int rank,
                                                int num_ranks);

/// What a build did; the same on every rank.
struct BuildReport {
  data::CacheTotals totals;
  std::int64_t num_built = 0;
  std::vector<data::FailedStudy> failed;  ///< left out, in manifest order
};

/// Builds what is stale, each rank its shards; then rank 0 finishes the cache.
/// @param on_volume called on this rank after each volume, from any thread
/// @throws AgreedError. Collective over group.
BuildReport build_cache_on_ranks(const data::CachePlan& plan, dist::ProcessGroup& group,
                                 double round_seconds, const std::function<void()>& on_volume);

struct VerifiedCache {
  std::int64_t num_volumes = 0;  ///< over all ranks
  std::vector<std::string>
      damaged;  ///< as data::verify_cache gives them, in shard order; the same on every rank
};

/// Checks every shard, each on one rank. @param on_volume called on this rank after each volume
/// @throws AgreedError (66) when there is no cache. Collective over group.
[[nodiscard]] VerifiedCache verify_cache_on_ranks(const std::filesystem::path& folder,
                                                  dist::ProcessGroup& group, double round_seconds,
                                                  const std::function<void()>& on_volume);

/// What to say and do about damage that was found: a build rebuilds a shard that is missing, but
/// does not see bits that rotted in a volume while the file kept its time.
[[nodiscard]] DataError damage_error(const std::filesystem::path& folder,
                                     const std::vector<std::string>& damaged);

}  // namespace triphase::launch
