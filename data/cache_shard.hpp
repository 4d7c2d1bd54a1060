// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/descriptor.hpp"
#include "data/cache.hpp"
#include "data/voxel_codec.hpp"

namespace triphase::data {

/// Everything of one sample but its voxels, and what its image file was.
struct ShardRecord {
  CacheEntry entry;
  std::string report;
  std::uint64_t source_hash = 0;  ///< xxh3 of the image file
  std::int64_t source_bytes = 0;
  std::int64_t source_mtime_ns = 0;
  std::uint64_t chunk_hash = 0;  ///< xxh3 of the stored voxels
};

/// What a shard holds besides voxels.
struct ShardFacts {
  CacheSpec spec;
  std::vector<std::string> findings;
  std::int64_t volumes_per_shard = 0;  ///< of the build; the last shard may hold fewer
  std::int64_t pad_id = 1;             ///< fills the rows of /tokens
  std::vector<ShardRecord> records;
  std::vector<std::int64_t> chunk_offsets;  ///< place of each volume in the file

  /// xxh3 over all of the above but pad_id and the offsets. Kept in the shard, so that it proves
  /// itself.
  [[nodiscard]] std::uint64_t hash() const;
  [[nodiscard]] std::int64_t chunk_bytes() const;
};

[[nodiscard]] std::string shard_name(std::int64_t index);  ///< "shard-00007.h5"
[[nodiscard]] bool is_shard_name(
    const std::string& name);  ///< a shard, or an unfinished one (".part")

/// Reads and checks a shard's facts. @throws DataError naming the shard
[[nodiscard]] ShardFacts read_shard(const std::filesystem::path& path);

/// Writes one shard under a temporary name; finish() gives it its own. One that was not finished is
/// deleted. The bytes of the file depend on the content alone, not on the order of write_volume()
/// calls.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& path, const CacheSpec& spec, std::int64_t num_volumes);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;
  /// Each volume once; from any thread. @throws IoError
  void write_volume(std::int64_t index, std::span<const std::byte> bytes);
  void finish(const ShardFacts& facts);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A shard's bytes, read at given places outside HDF5. Safe to use from several threads.
class ShardBytes {
 public:
  explicit ShardBytes(const std::filesystem::path& path);
  [[nodiscard]] std::int64_t size() const { return file_.size_bytes; }
  /// @throws DataError when the file ends before, IoError
  void read_at(std::int64_t offset, std::span<std::byte> out) const;
  /// xxh3 of everything outside the given chunks: HDF5's own structures and all small datasets.
  /// @throws DataError when the chunks overlap or leave the file
  [[nodiscard]] std::uint64_t hash_outside(std::vector<std::int64_t> chunk_offsets,
                                           std::int64_t chunk_bytes) const;

 private:
  std::filesystem::path path_;
  InputFile file_;
};

/// CacheSpec::text() read back. @throws DataError when it is not one
[[nodiscard]] CacheSpec parse_cache_spec(const std::string& text);

}  // namespace triphase::data
