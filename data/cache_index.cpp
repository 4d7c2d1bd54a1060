// SPDX-License-Identifier: Apache-2.0
#include "data/cache_index.hpp"

#include <sys/stat.h>

#include <cerrno>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
constexpr const char* kFormat = "triphase-cache";
constexpr std::int64_t kMaxIndexBytes = std::int64_t{1} << 30;
constexpr const char* kRepair =
    " It is damaged, or a build was interrupted. Run triphase cache build again.";

Json shard_json(const ShardIndex& shard, const CacheSpec& spec) {
  Json json;
  json["file"] = shard.file_name;
  json["volumes"] = shard.chunks.size();
  json["bytes"] = shard.bytes;
  json["facts_hash"] = hex64(shard.facts_hash);
  json["outside_hash"] = hex64(shard.outside_hash);
  Json& offsets = json["chunk_offsets"] = Json::array();
  for (const ChunkPlace& chunk : shard.chunks) offsets.push_back(chunk.offset);
  if (spec.compression == Compression::kNone) return json;
  Json& bytes = json["chunk_bytes"] = Json::array();
  for (const ChunkPlace& chunk : shard.chunks) bytes.push_back(chunk.bytes);
  return json;
}

std::uint64_t parse_hex(const std::string& text) {
  std::size_t used = 0;
  const std::uint64_t value = std::stoull(text, &used, 16);
  if (used != text.size() || text.size() != 16) throw std::invalid_argument("no hash: " + text);
  return value;
}

ShardIndex parse_shard(const Json& json, const CacheSpec& spec) {
  ShardIndex shard;
  json.at("file").get_to(shard.file_name);
  if (!is_shard_name(shard.file_name)) throw std::invalid_argument("no shard: " + shard.file_name);
  json.at("bytes").get_to(shard.bytes);
  shard.facts_hash = parse_hex(json.at("facts_hash").get<std::string>());
  shard.outside_hash = parse_hex(json.at("outside_hash").get<std::string>());
  const auto offsets = json.at("chunk_offsets").get<std::vector<std::int64_t>>();
  std::vector<std::int64_t> bytes(offsets.size(), volume_bytes(spec));
  if (spec.compression != Compression::kNone) json.at("chunk_bytes").get_to(bytes);
  if (bytes.size() != offsets.size()) throw std::invalid_argument("places and sizes differ");
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (!can_be_chunk_size(spec, bytes[i])) throw std::invalid_argument("no size of a volume");
    shard.chunks.push_back({offsets[i], bytes[i]});
  }
  return shard;
}

Json index_json(const CacheIndex& index) {
  Json json;
  json["format"] = kFormat;
  json["preset"] = index.spec.preprocess.preset;
  json["spec"] = Json::parse(index.spec.text());
  json["spec_hash"] = index.spec.hash();
  json["findings"] = index.findings;
  Json& counts = json["counts"];
  std::size_t volumes = 0;
  for (const ShardIndex& shard : index.shards) volumes += shard.chunks.size();
  counts["volumes"] = volumes;
  counts["patients"] = index.num_patients;
  counts["by_site"] = index.volumes_per_site;
  counts["by_split"] = index.volumes_per_split;
  json["left_out"] = Json::array();
  for (const FailedStudy& study : index.left_out)
    json["left_out"].push_back({{"id", study.id}, {"line", study.line}, {"reason", study.reason}});
  json["volumes_per_shard"] = index.volumes_per_shard;
  json["shards"] = Json::array();
  for (const ShardIndex& shard : index.shards) json["shards"].push_back(shard_json(shard, index.spec));
  return json;
}

CacheIndex parse_index(const Json& json) {
  CacheIndex index;
  if (json.at("format").get<std::string>() != kFormat)
    throw std::invalid_argument("another format");
  index.spec = parse_cache_spec(json.at("spec").dump());
  json.at("preset").get_to(index.spec.preprocess.preset);
  json.at("findings").get_to(index.findings);
  json.at("volumes_per_shard").get_to(index.volumes_per_shard);
  const Json& counts = json.at("counts");
  counts.at("patients").get_to(index.num_patients);
  for (const auto& [site, count] : counts.at("by_site").items())
    index.volumes_per_site[site] = count.get<std::int64_t>();
  for (const auto& [split, count] : counts.at("by_split").items())
    index.volumes_per_split[split] = count.get<std::int64_t>();
  for (const Json& study : json.value("left_out", Json::array()))
    index.left_out.push_back({.record_index = 0,
                              .id = study.at("id").get<std::string>(),
                              .line = study.at("line").get<std::int64_t>(),
                              .reason = study.at("reason").get<std::string>()});
  for (const Json& shard : json.at("shards"))
    index.shards.push_back(parse_shard(shard, index.spec));
  return index;
}

}  // namespace

CacheIndex read_cache_index(const fs::path& folder) {
  const fs::path path = folder / kCacheIndexName;
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, fs::exists(path), "there is no cache in '",
                      folder.string(), "': '", kCacheIndexName,
                      "' is missing. Build one with triphase cache build, or finish an interrupted "
                      "build by running it again.");
  Json json = read_json(path, kMaxIndexBytes);
  try {
    const std::string own_hash = json.at("index_hash").get<std::string>();
    json.erase("index_hash");
    TRIPHASE_CHECK(
        DataError, own_hash == hex64(xxh3(json.dump())), "'", path.string(),
        "' was changed or damaged: it does not have the hash it should have. Run triphase "
        "cache build again.");
    return parse_index(json);
  } catch (const nlohmann::json::exception& error) {
    throw DataError(str("'", path.string(), "' is damaged (", error.what(),
                        "). Run triphase cache build again."));
  } catch (const std::logic_error& error) {
    throw DataError(str("'", path.string(), "' is damaged (", error.what(),
                        "). Run triphase cache build again."));
  }
}

void write_cache_index(const fs::path& folder, const CacheIndex& index) {
  Json json = index_json(index);
  json["index_hash"] = hex64(xxh3(json.dump()));
  write_json(folder / kCacheIndexName, json);
}

ShardTimes read_shard_times(const fs::path& folder) {
  try {
    return read_json(folder / kShardTimesName, kMaxIndexBytes).get<ShardTimes>();
  } catch (const DataError&) {  // none, or damaged
  } catch (const nlohmann::json::exception&) {
  }
  return {};
}

void write_shard_times(const fs::path& folder, const CacheIndex& index) {
  Json json = Json::object();
  for (const ShardIndex& shard : index.shards)
    json[shard.file_name] = modification_time_ns(folder / shard.file_name);
  write_json(folder / kShardTimesName, json);
}

ShardIndex index_shard(const fs::path& path, const ShardFacts& facts) {
  const ShardBytes bytes(path);
  ShardIndex index;
  index.file_name = path.filename().string();
  index.bytes = bytes.size();
  index.facts_hash = facts.hash();
  index.chunks = facts.chunks;
  index.outside_hash = bytes.hash_outside(facts.chunks);
  return index;
}

void check_outside(const fs::path& folder, const ShardIndex& shard) {
  const fs::path path = folder / shard.file_name;
  TRIPHASE_CHECK(DataError, fs::exists(path), "cache shard '", path.string(), "' is missing.",
                 kRepair);
  const ShardBytes bytes(path);
  TRIPHASE_CHECK(DataError, bytes.size() == shard.bytes, "cache shard '", path.string(), "' has ",
                 bytes.size(), " bytes, expected ", shard.bytes, ".", kRepair);
  const std::uint64_t hash = bytes.hash_outside(shard.chunks);
  TRIPHASE_CHECK(DataError, hash == shard.outside_hash, "cache shard '", path.string(),
                 "' does not have the hash it should have outside its volumes.", kRepair);
}

ShardFacts read_indexed_shard(const fs::path& folder, const CacheIndex& index,
                              const ShardIndex& shard) {
  const fs::path path = folder / shard.file_name;
  check_outside(folder, shard);
  ShardFacts facts = read_shard(path);
  TRIPHASE_CHECK(DataError, facts.hash() == shard.facts_hash, "cache shard '", path.string(),
                 "' holds other studies than ", kCacheIndexName, " says.", kRepair);
  TRIPHASE_CHECK(DataError, facts.spec.hash() == index.spec.hash(), "cache shard '", path.string(),
                 "' was built under specification ", facts.spec.hash(), ", expected ",
                 index.spec.hash(), ".", kRepair);
  TRIPHASE_CHECK(DataError, facts.chunks == shard.chunks, "cache shard '",
                 path.string(), "' has its volumes elsewhere than ", kCacheIndexName, " says.",
                 kRepair);
  return facts;
}

std::int64_t modification_time_ns(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    throw io_error(str("cannot look at '", path.string(), "'"), errno);
  return static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace triphase::data
