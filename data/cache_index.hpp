// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>

#include "data/cache_shard.hpp"

namespace triphase::data {

/// What cache.json says of one shard: enough to see any damage outside the volumes before HDF5
/// opens it, and where each volume lies.
struct ShardIndex {
  std::string file_name;
  std::int64_t bytes = 0;
  std::uint64_t facts_hash = 0;    ///< ShardFacts::hash(), which covers the volumes' hashes
  std::uint64_t outside_hash = 0;  ///< ShardBytes::hash_outside()
  std::vector<ChunkPlace> chunks;
};

/// cache.json, a function of the studies and the specification alone. It is written last: a folder without it holds no finished cache.
struct CacheIndex {
  CacheSpec spec;
  std::vector<std::string> findings;
  std::int64_t volumes_per_shard = 0;
  std::int64_t num_patients = 0;
  std::map<std::string, std::int64_t> volumes_per_site;
  std::map<std::string, std::int64_t> volumes_per_split;
  std::vector<FailedStudy> left_out;  ///< by record_index, which is not written
  std::vector<ShardIndex> shards;
};

inline constexpr const char* kCacheIndexName = "cache.json";

/// When each shard was last modified, by file name, as the build left it; kept beside cache.json, so
/// that equal caches have equal bytes. Empty when there is no sound list: all shards then count as
/// touched.
using ShardTimes = std::map<std::string, std::int64_t>;
inline constexpr const char* kShardTimesName = "shard_times.json";
[[nodiscard]] ShardTimes read_shard_times(const std::filesystem::path& folder);
void write_shard_times(const std::filesystem::path& folder, const CacheIndex& index);

/// @throws DataError (66) when there is none, (65) when it is damaged
[[nodiscard]] CacheIndex read_cache_index(const std::filesystem::path& folder);
void write_cache_index(const std::filesystem::path& folder, const CacheIndex& index);

/// Size and hashes of a shard as it lies there.
[[nodiscard]] ShardIndex index_shard(const std::filesystem::path& path, const ShardFacts& facts);

/// Opens a shard after checking it against the index: size, then every byte outside the volumes,
/// then what HDF5 reads. @throws DataError naming the shard and what is wrong
[[nodiscard]] ShardFacts read_indexed_shard(const std::filesystem::path& folder,
                                            const CacheIndex& index, const ShardIndex& shard);
/// Of that the part before HDF5 opens it. @throws DataError
void check_outside(const std::filesystem::path& folder, const ShardIndex& shard);

/// Modification time in nanoseconds. @throws IoError
[[nodiscard]] std::int64_t modification_time_ns(const std::filesystem::path& path);

}  // namespace triphase::data
