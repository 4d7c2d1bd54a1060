// SPDX-License-Identifier: Apache-2.0
#include "base/config_reader.hpp"
#include "base/file.hpp"
#include "base/parallel.hpp"
#include "base/progress.hpp"
#include "data/cache.hpp"
#include "data/folder_lock.hpp"
#include "launch/cache_on_ranks.hpp"
#include "launch/cache_page.hpp"
#include "launch/command.hpp"
#include "trainer/run_config.hpp"

#include <chrono>
#include <cstdio>
#include <map>
#include <memory>

namespace triphase::launch {
namespace {

/// Preprocessing and tokenizer from --preset, --config and --set, over the manifest's own tokenizer folder.
data::CacheBuildOptions build_options(const Arguments& arguments, dist::Runtime& runtime) {
  data::CacheBuildOptions options;
  options.manifest = arguments.text("manifest");
  options.out_dir = arguments.text("out");
  ConfigSources sources{.files = {}, .environment = config_environment(), .sets = {}};
  for (const std::string& file : arguments.all("config")) sources.files.emplace_back(file);
  if (arguments.has("preset")) sources.sets.push_back("preprocess.preset=" + arguments.text("preset"));
  for (const std::string& set : arguments.all("set")) sources.sets.push_back(set);

  // Read as a whole, with and without a run file: what is set for the runs does no harm here, and
  // what nothing reads is refused.
  const trainer::RunConfig config = trainer::load_run_config(sources);
  runtime.set_timeout(config.distributed.timeout_seconds);
  options.preprocess = config.preprocess.value_or(data::preprocess_preset("merlin"));
  options.max_text_tokens = config.model.max_text_tokens;
  options.text_preparation = config.model.text_preparation;
  options.compression = data::compression_from_name(config.cache.compression);
  options.is_strict = arguments.has("strict");
  const std::string tokenizer = arguments.text("tokenizer", config.model.tokenizer);
  options.max_text_tokens = arguments.integer("max-text-tokens", options.max_text_tokens, 2, 4096);
  options.tokenizer_dir = tokenizer.empty() ? options.manifest.parent_path() / "tokenizer"
                                             : std::filesystem::path(tokenizer);
  options.num_threads = static_cast<int>(arguments.integer("threads", 1, 1, 1024));
  options.shard_bytes = arguments.integer("shard-mib", options.shard_bytes >> 20, 1, 1 << 20) << 20;
  return options;
}

/// "cache volumes", or with several ranks "cache volumes (rank 0)".
std::string progress_title(const std::string& what, const dist::Runtime& runtime) {
  return what + (runtime.num_ranks() > 1 ? " (rank 0)" : "");
}

void print_report(const data::CachePlan& plan, const BuildReport& report, double seconds) {
  const auto num_studies = static_cast<std::int64_t>(plan.manifest.records.size());
  const auto num_failed = static_cast<std::int64_t>(report.failed.size());
  for (const data::FailedStudy& study : report.failed)
    std::printf("left out: study '%s', line %lld: %s\n", study.id.c_str(),
                static_cast<long long>(study.line), study.reason.c_str());
  std::printf("%s: specification %s\n", plan.options.out_dir.c_str(), plan.spec.hash().c_str());
  const auto row = [](const char* name, std::int64_t value, const std::string& note) {
    std::printf("  %-12s %15lld  %s\n", name, static_cast<long long>(value), note.c_str());
  };
  row("volumes", report.totals.num_volumes, str("in ", report.totals.num_shards, " shards"));
  row("built", report.num_built, "");
  row("skipped", num_studies - num_failed - report.num_built, "up to date");
  row("failed", num_failed,
      num_failed == 0 ? "" : "left out: listed above and in cache.json; the next build tries them again");
  row("bytes", report.totals.bytes, "");
  std::printf("  %-12s %15.1f\n", "seconds", seconds);
  if (num_failed > 0)
    std::fprintf(stderr, "warning: %lld of %lld studies are not in the cache\n",
                 static_cast<long long>(num_failed), static_cast<long long>(num_studies));
}

/// Held by every rank until the build has ended. Collective.
std::unique_ptr<data::FolderLock> lock_folder(const std::filesystem::path& folder, dist::Runtime& runtime) {
  std::unique_ptr<data::FolderLock> lock;
  const auto take = [&](data::FolderLock::Role role) {
    lock = std::make_unique<data::FolderLock>(folder, role);
  };
  dist::agree_on(runtime.world(), [&] {
    if (runtime.rank() != 0) return;
    make_output_directory(folder);
    take(data::FolderLock::Role::kLead);
  });
  dist::agree_on(runtime.world(), [&] {
    if (runtime.rank() != 0) take(data::FolderLock::Role::kFollow);
  });
  if (!lock->is_effective() && runtime.rank() == 0)
    std::fprintf(stderr, "warning: the file system of '%s' has no locks: see to it that no other build writes there\n",
                 folder.c_str());
  return lock;
}

/// Collective: the ranks share the looking and the building; rank 0 finishes.
ExitCode build(const data::CacheBuildOptions& options, bool progress_shown, dist::Runtime& runtime) {
  const auto start = std::chrono::steady_clock::now();
  const double round = round_seconds(runtime.timeout_seconds());
  const auto lock = lock_folder(options.out_dir, runtime);
  const data::CachePlan plan = plan_cache_on_ranks(options, runtime.world(), round);
  const std::int64_t mine = num_volumes_to_build(plan, runtime.rank(), runtime.num_ranks());
  Progress progress(progress_title("cache volumes", runtime), mine, {.enabled = progress_shown && mine > 0});
  const BuildReport report =
      build_cache_on_ranks(plan, runtime.world(), round, [&progress] { progress.advance(); });
  progress.finish();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (runtime.rank() == 0) print_report(plan, report, took.count());
  return ExitCode::kDone;
}

Action prepare_build(const Arguments& arguments, dist::Runtime& runtime) {
  const data::CacheBuildOptions options = build_options(arguments, runtime);
  const bool progress_shown = shows_progress(arguments, runtime);
  return [options, progress_shown, &runtime] { return build(options, progress_shown, runtime); };
}

/// Collective: each rank checks its shards; rank 0 tells.
ExitCode verify(const std::string& folder, bool progress_shown, dist::Runtime& runtime) {
  VerifiedCache found;
  {
    Progress progress(progress_title("verified volumes", runtime), 0, {.enabled = progress_shown});
    found = verify_cache_on_ranks(folder, runtime.world(), round_seconds(runtime.timeout_seconds()),
                                  [&progress] { progress.advance(); });
    progress.finish();
  }
  if (runtime.rank() == 0)
    for (const std::string& line : found.damaged) std::printf("damaged: %s\n", line.c_str());
  if (!found.damaged.empty()) throw dist::AgreedError(0, damage_error(folder, found.damaged));
  if (runtime.rank() == 0)
    std::printf("%s: %lld volumes, every hash is right\n", folder.c_str(), static_cast<long long>(found.num_volumes));
  return ExitCode::kDone;
}

Action prepare_verify(const Arguments& arguments, dist::Runtime& runtime) {
  const std::string folder = arguments.positionals[0];
  const bool progress_shown = shows_progress(arguments, runtime);
  return [folder, progress_shown, &runtime] { return verify(folder, progress_shown, runtime); };
}

ExitCode show(const std::string& folder, const std::string& page, std::int64_t max_volumes) {
  const data::Cache cache(folder);
  if (!page.empty()) write_file_atomically(page, cache_page(cache, max_volumes));
  std::printf("cache          %s\n", folder.c_str());
  std::printf("volumes        %zu\n", cache.entries().size());
  std::printf("specification  %s  %s\n", cache.spec().hash().c_str(), cache.spec().text().c_str());
  std::printf("data hash      %s\n", cache.data_hash().c_str());
  std::printf("left out       %zu studies\n\n", cache.left_out().size());

  struct Count {
    std::int64_t volumes = 0;
    std::vector<std::array<std::int64_t, 3>> labels;  // positive, negative, unknown
  };
  std::map<std::pair<std::string, std::string>, Count> counts;
  for (const data::CacheEntry& entry : cache.entries()) {
    Count& count = counts[{entry.site, entry.split}];
    count.labels.resize(cache.findings().size());
    ++count.volumes;
    for (std::size_t f = 0; f < entry.labels.size(); ++f)
      ++count.labels[f][entry.labels[f] == 1 ? 0 : entry.labels[f] == 0 ? 1 : 2];
  }
  std::printf("%-12s %-12s %8s", "site", "split", "volumes");
  for (const std::string& finding : cache.findings()) std::printf("  %s+", finding.c_str());
  std::printf("\n");
  for (const auto& [key, count] : counts) {
    std::printf("%-12s %-12s %8lld", key.first.c_str(), key.second.c_str(), static_cast<long long>(count.volumes));
    for (std::size_t f = 0; f < count.labels.size(); ++f)
      std::printf("  %*lld", static_cast<int>(cache.findings()[f].size()) + 1,
                  static_cast<long long>(count.labels[f][0]));
    std::printf("\n");
  }
  return ExitCode::kDone;
}

Action prepare_show(const Arguments& arguments, dist::Runtime& runtime) {
  const std::string folder = arguments.positionals[0];
  const std::string page = arguments.text("html");
  const std::int64_t max_volumes = arguments.integer("volumes", 24, 1, 1 << 16);
  const bool first = runtime.rank() == 0;
  return [=] { return first ? show(folder, page, max_volumes) : ExitCode::kDone; };
}

}  // namespace

Command cache_build_command() {
  return {
      .spec = {.name = "cache build",
               .summary = "preprocesses and tokenizes a manifest into HDF5 shards; does only what is missing or stale",
               .example = "  triphase cache build --manifest quickstart/cohort/manifest.csv --out quickstart/cache "
                          "--preset phantom\n"
                          "  mpirun -np 2 triphase cache build --manifest m.csv --out cache --tokenizer roberta",
               .options = {{"manifest", "FILE", "CSV: id,patient_id,site,split,image,report,label:<finding>...", true},
                           {"out", "DIR", "the cache folder", true},
                           {"preset", "NAME", "merlin (default), ct_clip or phantom"},
                           {"tokenizer", "DIR", "vocab.json and merges.txt (default: tokenizer/ beside the manifest)"},
                           {"max-text-tokens", "N", "longest report in tokens (default 1024)"},
                           {"threads", "N", "threads per rank (default 1)"},
                           {"shard-mib", "MIB", "size of a shard's volumes before compression (default 4096)"},
                           {"strict", "", "a study that cannot be read ends the build (default: it is left out and listed)"},
                           {"config", "FILE", "a run file; its [preprocess], [model] and [cache] count", false, true},
                           {"set", "K=V", "one value, e.g. preprocess.storage=float16", false, true}}},
      .prepare = prepare_build};
}

Command cache_verify_command() {
  return {.spec = {.name = "cache verify",
                   .summary = "checks every hash of a cache; the ranks divide its shards",
                   .example = "  triphase cache verify quickstart/cache\n"
                              "  mpirun -np 4 triphase cache verify quickstart/cache",
                   .options = {},
                   .positional_name = "DIR",
                   .min_positionals = 1,
                   .max_positionals = 1},
          .prepare = prepare_verify};
}

Command cache_show_command() {
  return {.spec = {.name = "cache show",
                   .summary = "prints counts, specification, splits and sites of a cache",
                   .example = "  triphase cache show quickstart/cache --html cache.html",
                   .options = {{"html", "FILE", "also a page of slices, with R, L, A, P, S, I at their edges"},
                               {"volumes", "N", "at most so many on the page (default 24)"}},
                   .positional_name = "DIR",
                   .min_positionals = 1,
                   .max_positionals = 1},
          .prepare = prepare_show};
}

}  // namespace triphase::launch
