// SPDX-License-Identifier: Apache-2.0
#include "data/cache.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/cache_index.hpp"
#include "data/chunk_compression.hpp"

namespace triphase::data {
namespace {

/// Where one sample's voxels are, and how to know them.
struct Place {
  std::size_t shard = 0;
  ChunkPlace chunk;
  std::uint64_t hash = 0;
};

std::string quoted_list(const std::set<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "'" : ", '") + word + "'";
  return text;
}

std::size_t num_voxels(const PreprocessOptions& options) {
  const Shape3& grid = options.volume_shape;
  return static_cast<std::size_t>(grid[0] * grid[1] * grid[2]);
}

void hash_entry(StreamingHash& hash, const ShardRecord& record) {
  const CacheEntry& entry = record.entry;
  hash.update(str(entry.id, '\0', entry.patient_id, '\0', entry.site, '\0', entry.split, '\0'));
  hash.update(std::as_bytes(std::span(entry.tokens)));
  hash.update(std::as_bytes(std::span(entry.labels)));
  hash.update(std::as_bytes(std::span(&record.chunk_hash, 1)));
  if (!entry.report_group.empty()) hash.update(str("report_group", '\0', entry.report_group, '\0'));
}

}  // namespace

struct Cache::State {
  std::filesystem::path folder;
  CacheIndex index;
  VoxelCodec codec;
  std::vector<ShardBytes> shards;
  std::vector<std::filesystem::path> shard_paths;
  std::vector<Place> places;
  std::vector<CacheEntry> entries;
  std::string data_hash;

  [[nodiscard]] const Place& place_of(std::int64_t sample) const {
    TRIPHASE_CHECK(InternalError, sample >= 0 && std::cmp_less(sample, places.size()), "sample ",
                   sample, " of a cache of ", places.size());
    return places[static_cast<std::size_t>(sample)];
  }
  void check_hash(std::int64_t sample, std::uint64_t found) const;
  template <class T>
  void read(std::int64_t sample, std::span<T> out) const;
  template <class T>
  void read_compressed(std::int64_t sample, std::span<T> out) const;
};

void Cache::State::check_hash(std::int64_t sample, std::uint64_t found) const {
  const Place& place = place_of(sample);
  TRIPHASE_CHECK(DataError, found == place.hash, "the volume of sample '",
                 entries[static_cast<std::size_t>(sample)].id, "' is damaged: in '",
                 shard_paths[place.shard].string(), "', ", place.chunk.bytes, " bytes from byte ",
                 place.chunk.offset, " have hash ", hex64(found), ", expected ", hex64(place.hash),
                 ". Delete this shard and run triphase cache build again.");
}

// Note [Reading a volume]
// Piece by piece, small enough to stay in a core's own cache between reading, hashing and
// converting: each byte then travels to the memory once, as voxels. The hash is known when the last
// piece has been converted; what was converted before an error is thrown away with it.
template <class T>
void Cache::State::read(std::int64_t sample, std::span<T> out) const {
  if (index.spec.compression != Compression::kNone) return read_compressed(sample, out);
  constexpr std::size_t kPieceBytes = 128 << 10;
  alignas(64) thread_local std::array<std::byte, kPieceBytes> buffer;
  const Place& place = place_of(sample);
  const auto width = static_cast<std::size_t>(bytes_per_voxel(codec.storage));
  StreamingHash hash;
  for (std::size_t done = 0; done < out.size();) {
    const std::size_t voxels = std::min(out.size() - done, kPieceBytes / width);
    const std::span<std::byte> piece(buffer.data(), voxels * width);
    shards[place.shard].read_at(place.chunk.offset + static_cast<std::int64_t>(done * width),
                                piece);
    hash.update(std::span<const std::byte>(piece));
    decode_voxels(piece, codec, out.subspan(done, voxels));
    done += voxels;
  }
  check_hash(sample, hash.digest());
}

template <class T>
void Cache::State::read_compressed(std::int64_t sample, std::span<T> out) const {
  // Kept by each loader thread: a buffer of 16 MB asked for anew costs as much as the reading.
  thread_local std::vector<std::byte> stored;
  thread_local std::vector<std::byte> bytes;
  const Place& place = place_of(sample);
  stored.resize(static_cast<std::size_t>(place.chunk.bytes));
  bytes.resize(static_cast<std::size_t>(volume_bytes(index.spec)));
  shards[place.shard].read_at(place.chunk.offset, stored);
  check_hash(sample, xxh3(stored));
  decompress_chunk(stored, bytes_per_voxel(codec.storage), bytes);
  decode_voxels(bytes, codec, out);
}

Cache::Cache(const std::filesystem::path& folder, const std::filesystem::path& staging)
    : state_(std::make_unique<State>()) {
  state_->folder = folder;
  state_->index = read_cache_index(folder);
  state_->codec = codec_for(state_->index.spec.preprocess);
  StreamingHash hash;
  hash.update(state_->index.spec.text());
  for (const ShardIndex& shard : state_->index.shards) {
    std::error_code ignored;
    const bool is_staged = !staging.empty() &&
                           std::filesystem::exists(staging / shard.file_name, ignored);
    const std::filesystem::path& source = is_staged ? staging : folder;
    ShardFacts facts = read_indexed_shard(source, state_->index, shard);
    TRIPHASE_CHECK(DataError, facts.findings == state_->index.findings, "cache shard '",
                   shard.file_name, "' has other findings than ", kCacheIndexName,
                   ". Run triphase cache build again.");
    for (std::size_t i = 0; i < facts.records.size(); ++i) {
      ShardRecord& record = facts.records[i];
      hash_entry(hash, record);
      state_->places.push_back({state_->shards.size(), facts.chunks[i], record.chunk_hash});
      state_->entries.push_back(std::move(record.entry));
    }
    state_->shard_paths.push_back(source / shard.file_name);
    state_->shards.emplace_back(state_->shard_paths.back());
  }
  state_->data_hash = hex64(hash.digest());
}

Cache::~Cache() = default;
Cache::Cache(Cache&&) noexcept = default;
Cache& Cache::operator=(Cache&&) noexcept = default;

const CacheSpec& Cache::spec() const { return state_->index.spec; }
const std::vector<std::string>& Cache::findings() const { return state_->index.findings; }
const std::vector<FailedStudy>& Cache::left_out() const { return state_->index.left_out; }
const std::vector<CacheEntry>& Cache::entries() const { return state_->entries; }
const std::filesystem::path& Cache::folder() const { return state_->folder; }
const std::string& Cache::data_hash() const { return state_->data_hash; }

void Cache::read_volume(std::int64_t index, float* out) const {
  state_->read(index, std::span(out, num_voxels(spec().preprocess)));
}

void Cache::read_volume(std::int64_t index, std::uint16_t* out) const {
  state_->read(index, std::span(out, num_voxels(spec().preprocess)));
}

std::vector<std::string> Cache::read_reports() const {
  std::vector<std::string> reports;
  for (const std::filesystem::path& shard : state_->shard_paths)
    for (ShardRecord& record : read_shard(shard).records) reports.push_back(std::move(record.report));
  TRIPHASE_CHECK(DataError, reports.size() == state_->entries.size(), "the shards of '",
                 state_->folder.string(), "' have changed since they were opened. Start again.");
  return reports;
}

std::int64_t Cache::stored_bytes(std::int64_t index) const {
  return state_->place_of(index).chunk.bytes;
}

void Cache::read_stored(std::int64_t index, std::byte* out) const {
  const Place& place = state_->place_of(index);
  state_->shards[place.shard].read_at(
      place.chunk.offset, std::span(out, static_cast<std::size_t>(place.chunk.bytes)));
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
