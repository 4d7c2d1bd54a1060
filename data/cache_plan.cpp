// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <optional>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/cache.hpp"
#include "data/cache_index.hpp"
#include "data/cache_study.hpp"
#include "data/scan_source.hpp"
#include "data/tokenizer.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The index of an earlier build, when there is a sound one.
std::optional<CacheIndex> earlier_index(const fs::path& folder) {
  try {
    return read_cache_index(folder);
  } catch (const DataError&) {
    return std::nullopt;
  }
}

/// Volumes per shard of an earlier build under this specification, from cache.json or, when that
/// build was interrupted, from its first shard.
std::optional<std::int64_t> earlier_volumes_per_shard(const fs::path& folder, const CacheSpec& spec,
                                                      const std::optional<CacheIndex>& index) {
  if (index && index->spec.hash() == spec.hash()) return index->volumes_per_shard;
  try {
    const ShardFacts facts = read_shard(folder / shard_name(0));
    if (facts.spec.hash() == spec.hash()) return facts.volumes_per_shard;
  } catch (const Error&) {  // no such shard, or not a sound one: it will be built
  }
  return std::nullopt;
}

/// A wrong path to all images is a mistake in the manifest; a missing one is a study left out.
void check_images(const Manifest& manifest, bool is_strict) {
  if (is_strict || std::none_of(manifest.records.begin(), manifest.records.end(), has_image))
    check_images_exist(manifest);
}

// Note [Shards]
// A shard takes a fixed number of records in manifest order, so that records appended to the
// manifest change the last shard only. The number follows from shard_bytes, and is lowered so that
// every rank has a shard. A number from an earlier build is kept, or building again on another
// number of ranks would make every shard stale; unless that would make very many small shards.
std::int64_t volumes_per_shard(const CacheBuildOptions& options, const CacheSpec& spec,
                               std::int64_t num_records, std::int64_t min_shards,
                               const std::optional<CacheIndex>& index) {
  constexpr std::int64_t kTolerableShards = 64;
  const std::int64_t by_bytes =
      std::max<std::int64_t>(1, options.shard_bytes / volume_bytes(spec));
  const std::int64_t by_ranks =
      std::max<std::int64_t>(1, num_records / std::max<std::int64_t>(1, min_shards));
  const std::int64_t fresh = std::min(by_bytes, by_ranks);
  const std::optional<std::int64_t> earlier =
      earlier_volumes_per_shard(options.out_dir, spec, index);
  if (!earlier || *earlier < 1 || *earlier > by_bytes) return fresh;
  const bool too_many =
      divide_up(num_records, *earlier) > kTolerableShards + 2 * divide_up(num_records, fresh);
  return too_many ? fresh : *earlier;
}

/// The image is the one that was cached: same size and time, or else the same content.
bool source_is_unchanged(const StudyRecord& wanted, const ShardRecord& stored) {
  if (scan_bytes(wanted.image) != stored.source_bytes) return false;
  if (scan_mtime_ns(wanted.image) == stored.source_mtime_ns) return true;
  return hash_scan(wanted.image) == stored.source_hash;
}

bool is_same_study(const StudyRecord& wanted, const ShardRecord& stored) {
  const CacheEntry& entry = stored.entry;
  return entry.id == wanted.id && entry.patient_id == wanted.patient_id &&
         entry.site == wanted.site && entry.split == wanted.split &&
         entry.labels == wanted.labels && stored.report == wanted.report &&
         entry.report_group == wanted.report_group && stored.correction == wanted.correction &&
         source_is_unchanged(wanted, stored);
}

bool volumes_are_sound(const fs::path& path, const ShardFacts& facts,
                       const std::function<void()>& after_volume) {
  const ShardBytes bytes(path);
  std::vector<std::byte> chunk;
  for (std::size_t i = 0; i < facts.records.size(); ++i) {
    chunk.resize(static_cast<std::size_t>(facts.chunks[i].bytes));
    bytes.read_at(facts.chunks[i].offset, chunk);
    if (xxh3(chunk) != facts.records[i].chunk_hash) return false;
    after_volume();
  }
  return true;
}

/// What an earlier build left behind besides the shards.
struct EarlierBuild {
  std::optional<CacheIndex> index;
  ShardTimes times;
};

/// Whether a shard that cache.json lists was changed since. Its facts prove themselves when they
/// are read; volumes are read only when the file's time says that someone touched it. Bits that rot
/// without that are for `cache verify` to find: a build that changes little must not read all.
bool is_touched_and_damaged(const fs::path& path, const ShardFacts& facts,
                            const EarlierBuild& earlier,
                            const std::function<void()>& after_volume) {
  if (!earlier.index) return false;
  const std::vector<ShardIndex>& shards = earlier.index->shards;
  const std::string name = path.filename().string();
  const auto listed = std::find_if(shards.begin(), shards.end(), [&](const ShardIndex& shard) {
    return shard.file_name == name;
  });
  if (listed == shards.end() || listed->facts_hash != facts.hash()) return false;
  const auto time = earlier.times.find(name);
  if (time != earlier.times.end() && time->second == modification_time_ns(path)) return false;
  return !volumes_are_sound(path, facts, after_volume);
}

/// The task's records that a shard does not hold, when it holds all others in order and as the
/// manifest has them; nothing otherwise.
std::optional<std::vector<std::int64_t>> missing_records(
    const ShardTask& task, const CachePlan& plan, const ShardFacts& facts,
    const std::function<void()>& after_study) {
  std::vector<std::int64_t> missing;
  std::size_t next = 0;
  for (const std::int64_t index : task.record_indices) {
    const StudyRecord& wanted = plan.manifest.records[static_cast<std::size_t>(index)];
    if (next == facts.records.size() || facts.records[next].entry.id != wanted.id) {
      missing.push_back(index);
      continue;
    }
    // A disk that is not mounted must not take studies out of a cache.
    TRIPHASE_CHECK_CODE(DataError, kMissingInput, has_image(wanted), "the image '",
                        wanted.image.string(), "' of study '", wanted.id, "' (line ", wanted.line,
                        " of '", plan.manifest.path.string(),
                        "') is not there any more, and the cache holds the study. Bring it back, or "
                        "drop the row.");
    if (!is_same_study(wanted, facts.records[next++])) return std::nullopt;
    after_study();
  }
  if (next != facts.records.size()) return std::nullopt;
  return missing;
}

/// @return the studies that are rightly missing when the shard is up to date; nothing when it is not
std::optional<std::vector<FailedStudy>> look_at_shard(const ShardTask& task, const CachePlan& plan,
                                                      const EarlierBuild& earlier,
                                                      const Tokenizer& tokenizer,
                                                      const std::function<void()>& after_study) {
  const fs::path path = plan.options.out_dir / task.file_name;
  if (!fs::exists(path)) return std::nullopt;
  try {
    const ShardFacts facts = read_shard(path);
    if (facts.spec.hash() != plan.spec.hash() || facts.findings != plan.manifest.findings ||
        facts.volumes_per_shard != plan.volumes_per_shard)
      return std::nullopt;
    const auto missing = missing_records(task, plan, facts, after_study);
    if (!missing || (plan.options.is_strict && !missing->empty()) ||
        is_touched_and_damaged(path, facts, earlier, after_study))
      return std::nullopt;
    std::vector<FailedStudy> failed;
    for (const std::int64_t record : *missing) {
      auto fault = fault_of_study(plan, record, [&](const StudyRecord& study) {
        static_cast<void>(prepare_study(plan, study, tokenizer));
      });
      if (!fault) return std::nullopt;
      failed.push_back(std::move(*fault));
      after_study();
    }
    return failed;
  } catch (const DataError& error) {
    if (error.exit_code() == ExitCode::kMissingInput) throw;
    return std::nullopt;  // damaged or of another version: built anew
  }
}

}  // namespace

std::int64_t CachePlan::num_stale_volumes() const {
  std::int64_t count = 0;
  for (const ShardTask& task : shards)
    if (!task.up_to_date) count += static_cast<std::int64_t>(task.record_indices.size());
  return count;
}

void divide_into_shards(CachePlan& plan, std::int64_t volumes_per_shard) {
  TRIPHASE_CHECK(InternalError, volumes_per_shard >= 1, "shards of ", volumes_per_shard,
                 " volumes");
  plan.volumes_per_shard = volumes_per_shard;
  plan.shards.clear();
  const auto num_records = static_cast<std::int64_t>(plan.manifest.records.size());
  for (std::int64_t first = 0; first < num_records; first += volumes_per_shard) {
    ShardTask task;
    task.file_name = shard_name(static_cast<std::int64_t>(plan.shards.size()));
    for (std::int64_t i = first; i < std::min(first + volumes_per_shard, num_records); ++i)
      task.record_indices.push_back(i);
    plan.shards.push_back(std::move(task));
  }
}

void find_up_to_date_shards(CachePlan& plan, int rank, int num_ranks,
                            const std::function<void()>& after_study) {
  const EarlierBuild earlier{earlier_index(plan.options.out_dir),
                             read_shard_times(plan.options.out_dir)};
  const Tokenizer tokenizer(plan.options.tokenizer_dir);
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    if (static_cast<int>(i % static_cast<std::size_t>(num_ranks)) != rank) continue;
    auto found = look_at_shard(plan.shards[i], plan, earlier, tokenizer, after_study);
    plan.shards[i].up_to_date = found.has_value();
    if (found) std::move(found->begin(), found->end(), std::back_inserter(plan.failed));
    after_study();  // the one that made the shard stale, too
  }
}

CachePlan divide_manifest(const CacheBuildOptions& options, std::int64_t min_shards) {
  check_preprocess_options(options.preprocess);
  TRIPHASE_CHECK(ConfigError, options.max_text_tokens >= 2 && options.max_text_tokens <= (1 << 16),
                 "max_text_tokens is ", options.max_text_tokens, "; expected 2 to 65536.");
  TRIPHASE_CHECK(ConfigError, options.shard_bytes >= 1, "shard_bytes is ", options.shard_bytes,
                 "; expected 1 or more.");
  TRIPHASE_CHECK(ConfigError, options.num_threads >= 1, "num_threads is ", options.num_threads,
                 "; expected 1 or more.");
  CachePlan plan;
  plan.options = options;
  if (plan.options.out_dir.empty()) plan.options.out_dir = ".";
  plan.manifest = read_manifest(options.manifest);
  check_images(plan.manifest, options.is_strict);
  plan.spec.preprocess = options.preprocess;
  plan.spec.tokenizer_hash = Tokenizer(options.tokenizer_dir).hash();
  plan.spec.max_text_tokens = options.max_text_tokens;
  plan.spec.text_preparation = options.text_preparation;
  plan.spec.compression = options.compression;

  const auto num_records = static_cast<std::int64_t>(plan.manifest.records.size());
  divide_into_shards(plan, volumes_per_shard(plan.options, plan.spec, num_records, min_shards,
                                             earlier_index(plan.options.out_dir)));
  return plan;
}

CachePlan plan_cache_build(const CacheBuildOptions& options, std::int64_t min_shards) {
  CachePlan plan = divide_manifest(options, min_shards);
  find_up_to_date_shards(plan, 0, 1, [] {});
  return plan;
}

}  // namespace triphase::data
