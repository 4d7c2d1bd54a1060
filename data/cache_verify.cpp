// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/cache.hpp"
#include "data/cache_index.hpp"

namespace triphase::data {
namespace {

std::string place_of(const ShardIndex& shard, std::size_t volume, const CacheIndex& index) {
  const ShardFacts shape{index.spec, {}, 0, 0, {}, {}};
  return str(shard.file_name, ": volume ", volume, ", bytes ", shard.chunk_offsets[volume], " to ",
             shard.chunk_offsets[volume] + shape.chunk_bytes() - 1);
}

void verify_volumes(const std::filesystem::path& folder, const CacheIndex& index,
                    const ShardIndex& shard, const ShardFacts& facts,
                    const std::function<void()>& on_volume, std::vector<std::string>& damaged) {
  const ShardBytes bytes(folder / shard.file_name);
  std::vector<std::byte> chunk(static_cast<std::size_t>(facts.chunk_bytes()));
  for (std::size_t i = 0; i < facts.records.size(); ++i) {
    bytes.read_at(facts.chunk_offsets[i], chunk);
    const std::uint64_t hash = xxh3(chunk);
    const ShardRecord& record = facts.records[i];
    if (hash != record.chunk_hash)
      damaged.push_back(str(place_of(shard, i, index), ", id '", record.entry.id, "': hash ",
                            hex64(hash), ", expected ", hex64(record.chunk_hash),
                            ". Delete this shard before building again."));
    on_volume();
  }
}

}  // namespace

std::vector<std::string> verify_cache(const std::filesystem::path& folder,
                                      const std::function<void()>& on_volume) {
  std::vector<std::string> damaged;
  CacheIndex index;
  try {
    index = read_cache_index(folder);
  } catch (const DataError& error) {
    if (error.exit_code() == ExitCode::kMissingInput) throw;
    return {error.what()};
  }
  for (const ShardIndex& shard : index.shards) {
    try {
      const ShardFacts facts = read_indexed_shard(folder, index, shard);
      verify_volumes(folder, index, shard, facts, on_volume, damaged);
    } catch (const Error& error) {
      damaged.push_back(str(shard.file_name, ": ", error.what()));
    }
  }
  return damaged;
}

}  // namespace triphase::data
