// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/parallel.hpp"
#include "data/cache.hpp"
#include "data/cache_index.hpp"
#include "data/cache_study.hpp"
#include "data/chunk_compression.hpp"
#include "data/prepare.hpp"
#include "data/report_text.hpp"
#include "data/scan_source.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// The reason without the image's path, which may say more of a patient than the study's id.
std::string without_path(std::string text, const fs::path& path) {
  const std::string quoted = "'" + path.string() + "'";
  for (std::size_t at = text.find(quoted); at != std::string::npos; at = text.find(quoted))
    text.replace(at, quoted.size(), "its image");
  return text;
}

/// One shard, or none when no study of it can be cached.
void build_shard(const CachePlan& plan, const ShardTask& task, const Tokenizer& tokenizer,
                 const std::function<void()>& on_volume, std::vector<FailedStudy>& failed) {
  const auto num_studies = static_cast<std::int64_t>(task.record_indices.size());
  const auto num_threads = static_cast<std::size_t>(plan.options.num_threads);
  ShardWriter writer(plan.options.out_dir / task.file_name, plan.spec, num_studies,
                     2 * num_threads);
  std::vector<std::optional<ShardRecord>> records(task.record_indices.size());
  std::mutex mutex;  // guards failed
  const auto build_one = [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    PreparedStudy prepared;
    auto fault = fault_of_study(plan, task.record_indices[at], [&](const StudyRecord& study) {
      prepared = prepare_study(plan, study, tokenizer);
    });
    if (fault) {
      writer.skip_volume(i);
      const std::scoped_lock lock(mutex);
      failed.push_back(std::move(*fault));
      return;
    }
    writer.write_volume(i, std::move(prepared.chunk));
    records[at] = std::move(prepared.record);
  };
  parallel_for(num_studies, plan.options.num_threads, [&](std::int64_t i) {
    try {
      build_one(i);
    } catch (...) {
      writer.give_up();
      throw;
    }
    on_volume();
  });
  ShardFacts facts;
  facts.spec = plan.spec;
  facts.findings = plan.manifest.findings;
  facts.volumes_per_shard = plan.volumes_per_shard;
  facts.pad_id = tokenizer.pad_id();
  for (std::optional<ShardRecord>& record : records)
    if (record) facts.records.push_back(std::move(*record));
  if (!facts.records.empty()) writer.finish(facts);
}

/// Unfinished shards, unfinished indices, and shards of an earlier build that the plan does not
/// have.
bool is_leftover(const std::string& name, const std::set<std::string>& wanted) {
  const bool unfinished_index = (name.starts_with(str(".", kCacheIndexName)) ||
                                 name.starts_with(str(".", kShardTimesName))) &&
                                name.ends_with(".part");
  return unfinished_index || (is_shard_name(name) && !wanted.contains(name));
}

void delete_leftovers(const fs::path& folder, const CacheIndex& index) {
  std::set<std::string> wanted;
  for (const ShardIndex& shard : index.shards) wanted.insert(shard.file_name);
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (is_leftover(entry.path().filename().string(), wanted)) leftovers.push_back(entry.path());
  for (const fs::path& path : leftovers) {
    std::error_code ignored;  // a leftover does no harm
    fs::remove(path, ignored);
  }
}

/// The index's counts of what is there. @return the records that are left out
std::set<std::int64_t> count_studies(const CachePlan& plan, CacheIndex& index) {
  std::set<std::int64_t> left_out;
  for (const FailedStudy& study : index.left_out) left_out.insert(study.record_index);
  std::set<std::string> patients;
  for (std::size_t i = 0; i < plan.manifest.records.size(); ++i) {
    if (left_out.contains(static_cast<std::int64_t>(i))) continue;
    const StudyRecord& study = plan.manifest.records[i];
    patients.insert(study.patient_id);
    ++index.volumes_per_site[study.site];
    ++index.volumes_per_split[study.split];
  }
  index.num_patients = static_cast<std::int64_t>(patients.size());
  return left_out;
}

}  // namespace

PreparedStudy prepare_study(const CachePlan& plan, const StudyRecord& study,
                            const Tokenizer& tokenizer) {
  PreparedStudy prepared;
  ShardRecord& record = prepared.record;
  record.entry.id = study.id;
  record.entry.patient_id = study.patient_id;
  record.entry.site = study.site;
  record.entry.split = study.split;
  record.entry.labels = study.labels;
  record.entry.report_group = study.report_group;
  record.report = study.report;
  record.correction = study.correction;
  record.entry.tokens = tokenizer.encode(prepare_report(study.report, plan.spec.text_preparation),
                                         plan.spec.max_text_tokens);
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, has_image(study), "'", study.image.string(),
                      "' is not there, or is no file and no folder.");
  record.source_bytes = scan_bytes(study.image);
  record.source_mtime_ns = scan_mtime_ns(study.image);
  record.source_hash = hash_scan(study.image);

  PreparedVolume volume = prepare_scan(study.image, plan.spec.preprocess, {}, study.correction);
  record.entry.affine = volume.affine;
  prepared.chunk = std::move(volume.bytes);
  if (plan.spec.compression == Compression::kZstd)
    prepared.chunk =
        compress_chunk(prepared.chunk, bytes_per_voxel(plan.spec.preprocess.storage));
  record.chunk_hash = xxh3(prepared.chunk);
  return prepared;
}

std::optional<FailedStudy> fault_of_study(const CachePlan& plan, std::int64_t record_index,
                                          const std::function<void(const StudyRecord&)>& action) {
  const StudyRecord& study = plan.manifest.records[static_cast<std::size_t>(record_index)];
  try {
    action(study);
    return std::nullopt;
  } catch (Error& error) {
    const ExitCode code = error.exit_code();
    const bool is_its_own = code == ExitCode::kBadData || code == ExitCode::kMissingInput ||
                            code == ExitCode::kPermission;
    if (is_its_own && !plan.options.is_strict)
      return FailedStudy{.record_index = record_index,
                         .id = study.id,
                         .line = study.line,
                         .reason = without_path(error.message(), study.image)};
    error.add_context(str("while caching study '", study.id, "', line ", study.line,
                          " of manifest '", plan.manifest.path.string(), "', image '",
                          study.image.string(), "'"));
    throw;
  }
}

std::vector<FailedStudy> build_cache_shards(const CachePlan& plan, int rank, int num_ranks,
                                            const std::function<void()>& on_volume) {
  const Tokenizer tokenizer(plan.options.tokenizer_dir);
  std::vector<FailedStudy> failed;
  std::int64_t stale_index = 0;
  for (const ShardTask& task : plan.shards) {
    if (task.up_to_date) continue;
    if (stale_index++ % num_ranks == rank) build_shard(plan, task, tokenizer, on_volume, failed);
  }
  return failed;
}

CacheTotals finish_cache(const CachePlan& plan, std::vector<FailedStudy> failed,
                         const std::function<void()>& after_shard) {
  failed.insert(failed.end(), plan.failed.begin(), plan.failed.end());
  std::sort(failed.begin(), failed.end(), [](const FailedStudy& a, const FailedStudy& b) {
    return a.record_index < b.record_index;
  });
  const auto is_same = [](const FailedStudy& a, const FailedStudy& b) {
    return a.record_index == b.record_index;
  };
  failed.erase(std::unique(failed.begin(), failed.end(), is_same), failed.end());
  TRIPHASE_CHECK(DataError, failed.size() < plan.manifest.records.size(), "none of the ",
                 failed.size(), " studies of '", plan.manifest.path.string(),
                 "' can be cached. The first one, '", failed.front().id, "' (line ",
                 failed.front().line, "): ", failed.front().reason);
  CacheIndex index;
  index.spec = plan.spec;
  index.findings = plan.manifest.findings;
  index.volumes_per_shard = plan.volumes_per_shard;
  index.left_out = std::move(failed);
  const std::set<std::int64_t> left_out = count_studies(plan, index);
  CacheTotals totals;
  for (const ShardTask& task : plan.shards) {
    const auto num_left_out = std::count_if(
        task.record_indices.begin(), task.record_indices.end(),
        [&](std::int64_t record) { return left_out.contains(record); });
    const auto num_wanted = task.record_indices.size() - static_cast<std::size_t>(num_left_out);
    if (num_wanted == 0) continue;
    const fs::path path = plan.options.out_dir / task.file_name;
    const ShardFacts facts = read_shard(path);
    TRIPHASE_CHECK(InternalError,
                   facts.spec.hash() == plan.spec.hash() && facts.records.size() == num_wanted,
                   "cache shard '", path.string(), "' is not the one that was planned");
    index.shards.push_back(index_shard(path, facts));
    totals.num_volumes += static_cast<std::int64_t>(num_wanted);
    totals.bytes += index.shards.back().bytes;
    after_shard();
  }
  totals.num_shards = static_cast<std::int64_t>(index.shards.size());
  write_shard_times(plan.options.out_dir, index);
  write_cache_index(plan.options.out_dir, index);
  delete_leftovers(plan.options.out_dir, index);
  return totals;
}

}  // namespace triphase::data
