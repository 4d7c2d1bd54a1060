// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <system_error>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/parallel.hpp"
#include "data/cache.hpp"
#include "data/cache_index.hpp"
#include "data/nifti.hpp"
#include "data/tokenizer.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// Reads, prepares and stores one study; returns its facts.
ShardRecord build_record(const CachePlan& plan, const StudyRecord& study,
                         const Tokenizer& tokenizer, std::int64_t index_in_shard,
                         ShardWriter& writer) {
  ShardRecord record;
  record.entry.id = study.id;
  record.entry.patient_id = study.patient_id;
  record.entry.site = study.site;
  record.entry.split = study.split;
  record.entry.labels = study.labels;
  record.report = study.report;
  record.entry.tokens = tokenizer.encode(prepare_report(study.report, plan.spec.text_preparation),
                                         plan.spec.max_text_tokens);
  record.source_bytes = static_cast<std::int64_t>(fs::file_size(study.image));
  record.source_mtime_ns = modification_time_ns(study.image);
  record.source_hash = hash_file(study.image);

  const Volume volume = preprocess(read_nifti(study.image), plan.spec.preprocess);
  record.entry.affine = volume.affine;
  const std::vector<std::byte> bytes =
      encode_voxels(volume.voxels, codec_for(plan.spec.preprocess));
  record.chunk_hash = xxh3(bytes);
  writer.write_volume(index_in_shard, bytes);
  return record;
}

void build_shard(const CachePlan& plan, const ShardTask& task, const Tokenizer& tokenizer,
                 const std::function<void()>& on_volume) {
  const auto num_volumes = static_cast<std::int64_t>(task.record_indices.size());
  ShardWriter writer(plan.options.out_dir / task.file_name, plan.spec, num_volumes);
  ShardFacts facts;
  facts.spec = plan.spec;
  facts.findings = plan.manifest.findings;
  facts.volumes_per_shard = plan.volumes_per_shard;
  facts.pad_id = tokenizer.pad_id();
  facts.records.resize(task.record_indices.size());
  parallel_for(num_volumes, plan.options.num_threads, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    const StudyRecord& study =
        plan.manifest.records[static_cast<std::size_t>(task.record_indices[at])];
    try {
      facts.records[at] = build_record(plan, study, tokenizer, i, writer);
    } catch (Error& error) {
      error.add_context(str("while caching study '", study.id, "', line ", study.line,
                            " of manifest '", plan.manifest.path.string(), "', image '",
                            study.image.string(), "'"));
      throw;
    }
    on_volume();
  });
  writer.finish(facts);
}

/// Unfinished shards, unfinished indices, and shards of an earlier build that the plan does not
/// have.
bool is_leftover(const std::string& name, const std::set<std::string>& wanted) {
  const bool unfinished_index =
      name.starts_with(str(".", kCacheIndexName)) && name.ends_with(".part");
  return unfinished_index || (is_shard_name(name) && !wanted.contains(name));
}

void delete_leftovers(const CachePlan& plan) {
  std::set<std::string> wanted;
  for (const ShardTask& task : plan.shards) wanted.insert(task.file_name);
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(plan.options.out_dir))
    if (is_leftover(entry.path().filename().string(), wanted)) leftovers.push_back(entry.path());
  for (const fs::path& path : leftovers) {
    std::error_code ignored;  // a leftover does no harm
    fs::remove(path, ignored);
  }
}

}  // namespace

void build_cache_shards(const CachePlan& plan, int rank, int num_ranks,
                        const std::function<void()>& on_volume) {
  const Tokenizer tokenizer(plan.options.tokenizer_dir);
  std::int64_t stale_index = 0;
  for (const ShardTask& task : plan.shards) {
    if (task.up_to_date) continue;
    if (stale_index++ % num_ranks == rank) build_shard(plan, task, tokenizer, on_volume);
  }
}

void finish_cache(const CachePlan& plan, const std::function<void()>& after_shard) {
  CacheIndex index;
  index.spec = plan.spec;
  index.findings = plan.manifest.findings;
  index.volumes_per_shard = plan.volumes_per_shard;
  std::set<std::string> patients;
  for (const StudyRecord& study : plan.manifest.records) {
    patients.insert(study.patient_id);
    ++index.volumes_per_site[study.site];
    ++index.volumes_per_split[study.split];
  }
  index.num_patients = static_cast<std::int64_t>(patients.size());
  for (const ShardTask& task : plan.shards) {
    const fs::path path = plan.options.out_dir / task.file_name;
    const ShardFacts facts = read_shard(path);
    TRIPHASE_CHECK(
        InternalError,
        facts.spec.hash() == plan.spec.hash() && facts.records.size() == task.record_indices.size(),
        "cache shard '", path.string(), "' is not the one that was planned");
    index.shards.push_back(index_shard(path, facts));
    after_shard();
  }
  write_cache_index(plan.options.out_dir, index);
  delete_leftovers(plan);
}

}  // namespace triphase::data
