// SPDX-License-Identifier: Apache-2.0
#include "data/cache.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/cache_index.hpp"

namespace triphase::data {
namespace {

/// Where one sample's voxels are, and how to know them.
struct Place {
  std::size_t shard = 0;
  std::int64_t offset = 0;
  std::uint64_t hash = 0;
};

std::string quoted_list(const std::set<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "'" : ", '") + word + "'";
  return text;
}

void hash_entry(StreamingHash& hash, const ShardRecord& record) {
  const CacheEntry& entry = record.entry;
  hash.update(str(entry.id, '\0', entry.patient_id, '\0', entry.site, '\0', entry.split, '\0'));
  hash.update(std::as_bytes(std::span(entry.tokens)));
  hash.update(std::as_bytes(std::span(entry.labels)));
  hash.update(std::as_bytes(std::span(&record.chunk_hash, 1)));
}

}  // namespace

struct Cache::State {
  std::filesystem::path folder;
  CacheIndex index;
  VoxelCodec codec;
  std::vector<ShardBytes> shards;
  std::vector<Place> places;
  std::vector<CacheEntry> entries;
  std::string data_hash;
};

Cache::Cache(const std::filesystem::path& folder) : state_(std::make_unique<State>()) {
  state_->folder = folder;
  state_->index = read_cache_index(folder);
  state_->codec = codec_for(state_->index.spec.preprocess);
  StreamingHash hash;
  hash.update(state_->index.spec.text());
  for (const ShardIndex& shard : state_->index.shards) {
    ShardFacts facts = read_indexed_shard(folder, state_->index, shard);
    TRIPHASE_CHECK(DataError, facts.findings == state_->index.findings, "cache shard '",
                   shard.file_name, "' has other findings than ", kCacheIndexName,
                   ". Run triphase cache build again.");
    for (std::size_t i = 0; i < facts.records.size(); ++i) {
      ShardRecord& record = facts.records[i];
      hash_entry(hash, record);
      state_->places.push_back({state_->shards.size(), facts.chunk_offsets[i], record.chunk_hash});
      state_->entries.push_back(std::move(record.entry));
    }
    state_->shards.emplace_back(folder / shard.file_name);
  }
  state_->data_hash = hex64(hash.digest());
}

Cache::~Cache() = default;
Cache::Cache(Cache&&) noexcept = default;
Cache& Cache::operator=(Cache&&) noexcept = default;

const CacheSpec& Cache::spec() const { return state_->index.spec; }
const std::vector<std::string>& Cache::findings() const { return state_->index.findings; }
const std::vector<CacheEntry>& Cache::entries() const { return state_->entries; }
const std::filesystem::path& Cache::folder() const { return state_->folder; }
const std::string& Cache::data_hash() const { return state_->data_hash; }

void Cache::read_volume(std::int64_t index, float* out) const {
  TRIPHASE_CHECK(InternalError, index >= 0 && std::cmp_less(index, state_->places.size()),
                 "sample ", index, " of a cache of ", state_->places.size());
  const Place& place = state_->places[static_cast<std::size_t>(index)];
  const Shape3& grid = state_->index.spec.preprocess.volume_shape;
  const auto num_voxels = static_cast<std::size_t>(grid[0] * grid[1] * grid[2]);
  // Kept by each loader thread: a buffer of 16 MB asked for anew costs as much as the reading.
  thread_local std::vector<std::byte> bytes;
  bytes.resize(num_voxels * static_cast<std::size_t>(bytes_per_voxel(state_->codec.storage)));
  state_->shards[place.shard].read_at(place.offset, bytes);
  const std::uint64_t hash = xxh3(bytes);
  TRIPHASE_CHECK(DataError, hash == place.hash, "the volume of sample '",
                 state_->entries[static_cast<std::size_t>(index)].id, "' is damaged: in '",
                 (state_->folder / state_->index.shards[place.shard].file_name).string(), "', ",
                 bytes.size(), " bytes from byte ", place.offset, " have hash ", hex64(hash),
                 ", expected ", hex64(place.hash),
                 ". Delete this shard and run triphase cache build again.");
  decode_voxels(bytes, state_->codec, {out, num_voxels});
}

std::vector<std::int64_t> Cache::select(const std::string& split,
                                        const std::vector<std::string>& sites) const {
  std::vector<std::int64_t> indices;
  std::set<std::string> known_splits;
  std::set<std::string> known_sites;
  for (std::size_t i = 0; i < state_->entries.size(); ++i) {
    const CacheEntry& entry = state_->entries[i];
    known_splits.insert(entry.split);
    known_sites.insert(entry.site);
    const bool site_wanted =
        sites.empty() || std::find(sites.begin(), sites.end(), entry.site) != sites.end();
    if ((split == "all" || split == entry.split) && site_wanted)
      indices.push_back(static_cast<std::int64_t>(i));
  }
  TRIPHASE_CHECK(DataError, !indices.empty(), "cache '", state_->folder.string(),
                 "' has no sample in split '", split, "' of site ",
                 sites.empty() ? "any" : quoted_list({sites.begin(), sites.end()}),
                 ". It has the splits ", quoted_list(known_splits), " (or 'all') and the sites ",
                 quoted_list(known_sites), ".");
  return indices;
}

}  // namespace triphase::data
