// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/cache.hpp"
#include "data/cache_index.hpp"

namespace triphase::data {
namespace {

std::string place_of(const ShardIndex& shard, std::size_t volume) {
  const auto [offset, bytes] = shard.chunks[volume];
  return str(shard.file_name, ": volume ", volume, ", bytes ", offset, " to ", offset + bytes - 1);
}

/// One shard: opened when made, then checked volume by volume.
class ShardCheck {
 public:
  ShardCheck(const std::filesystem::path& folder, const CacheIndex& index, const ShardIndex& shard)
      : shard_(shard),
        facts_(read_indexed_shard(folder, index, shard)),
        bytes_(folder / shard.file_name) {}

  [[nodiscard]] std::size_t num_volumes() const { return facts_.records.size(); }

  /// @return the line to report, or nothing when the volume is as it should be
  [[nodiscard]] std::optional<std::string> check(std::size_t volume) {
    chunk_.resize(static_cast<std::size_t>(facts_.chunks[volume].bytes));
    bytes_.read_at(facts_.chunks[volume].offset, chunk_);
    const std::uint64_t hash = xxh3(chunk_);
    const ShardRecord& record = facts_.records[volume];
    if (hash == record.chunk_hash) return std::nullopt;
    return str(place_of(shard_, volume), ", id '", record.entry.id, "': hash ", hex64(hash),
               ", expected ", hex64(record.chunk_hash));
  }

 private:
  const ShardIndex& shard_;
  ShardFacts facts_;
  ShardBytes bytes_;
  std::vector<std::byte> chunk_;
};

/// What `read` returns; when it fails, that is noted as damage of the shard.
template <class Read>
auto read_or_note(const ShardIndex& shard, std::vector<std::string>& damaged, Read&& read)
    -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const Error& error) {
    damaged.push_back(str(shard.file_name, ": ", error.what()));
    return std::nullopt;
  }
}

}  // namespace

std::vector<std::string> verify_cache(const std::filesystem::path& folder,
                                      const std::function<void()>& on_volume, int rank,
                                      int num_ranks) {
  std::vector<std::string> damaged;
  CacheIndex index;
  try {
    index = read_cache_index(folder);
  } catch (const DataError& error) {
    if (error.exit_code() == ExitCode::kMissingInput) throw;
    return {str(kCacheIndexName, ": ", error.what())};
  }
  const std::size_t n = index.shards.size();
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const std::size_t end = n * (static_cast<std::size_t>(rank) + 1) / ranks;
  for (std::size_t s = n * static_cast<std::size_t>(rank) / ranks; s < end; ++s) {
    const ShardIndex& shard = index.shards[s];
    std::unique_ptr<ShardCheck> check;
    const auto open = [&] { return std::make_unique<ShardCheck>(folder, index, shard); };
    if (auto opened = read_or_note(shard, damaged, open)) check = std::move(*opened);
    for (std::size_t i = 0; check != nullptr && i < check->num_volumes(); ++i) {
      const auto line = read_or_note(shard, damaged, [&] { return check->check(i); });
      if (!line) break;  // the file cannot be read on
      if (*line) damaged.push_back(**line);
      on_volume();  // outside of what notes errors: its own are not the shard's
    }
  }
  return damaged;
}

}  // namespace triphase::data
