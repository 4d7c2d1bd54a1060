// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <limits>
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
  ScanCorrection correction;     ///< of the manifest
  std::uint64_t source_hash = 0;  ///< xxh3 of the image file
  std::int64_t source_bytes = 0;
  std::int64_t source_mtime_ns = 0;
  std::uint64_t chunk_hash = 0;  ///< xxh3 of the chunk's bytes as they are stored
};

/// Where a volume lies in its file.
struct ChunkPlace {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
  bool operator==(const ChunkPlace&) const = default;
};

/// What a shard holds besides voxels.
struct ShardFacts {
  CacheSpec spec;
  std::vector<std::string> findings;
  std::int64_t volumes_per_shard = 0;  ///< of the build; the last shard may hold fewer
  std::int64_t pad_id = 1;             ///< fills the rows of /tokens
  std::vector<ShardRecord> records;
  std::vector<ChunkPlace> chunks;  ///< place of each volume in the file

  /// xxh3 over all of the above but pad_id and the places. Kept in the shard, so that it proves
  /// itself.
  [[nodiscard]] std::uint64_t hash() const;
};

/// Bytes of one volume's voxels before compression.
[[nodiscard]] std::int64_t volume_bytes(const CacheSpec& spec);
/// The most and the fewest bytes that a chunk may have.
[[nodiscard]] bool can_be_chunk_size(const CacheSpec& spec, std::int64_t bytes);

[[nodiscard]] std::string shard_name(std::int64_t index);  ///< "shard-00007.h5"
[[nodiscard]] bool is_shard_name(
    const std::string& name);  ///< a shard, or an unfinished one (".part")

/// Reads and checks a shard's facts. @throws DataError naming the shard
[[nodiscard]] ShardFacts read_shard(const std::filesystem::path& path);

/// Writes one shard under a temporary name; finish() gives it its own. One that was not finished is
/// deleted. The bytes of the file depend on the content alone, not on the order of the calls: a
/// volume that comes before its turn is kept until those before it have come.
class ShardWriter {
 public:
  /// @param num_volumes how many will be written or skipped
  /// @param max_waiting write_volume() blocks while so many wait for their turn
  ShardWriter(const std::filesystem::path& path, const CacheSpec& spec, std::int64_t num_volumes,
              std::size_t max_waiting = std::numeric_limits<std::size_t>::max());
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;
  /// Each index in [0, num_volumes) once, written or skipped; from any thread. Skipped ones leave no
  /// gap. @param bytes the chunk as it is stored @throws IoError
  void write_volume(std::int64_t index, std::vector<std::byte> bytes);
  void skip_volume(std::int64_t index);
  /// Some index will not come: lets nobody wait for it. The shard cannot be finished.
  void give_up();
  /// @param facts one record for each volume that was written, one at least
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
  [[nodiscard]] std::uint64_t hash_outside(std::vector<ChunkPlace> chunks) const;

 private:
  std::filesystem::path path_;
  InputFile file_;
};

/// CacheSpec::text() read back. @throws DataError when it is not one
[[nodiscard]] CacheSpec parse_cache_spec(const std::string& text);

}  // namespace triphase::data
