// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "data/cache.hpp"
#include "launch/cache_on_ranks.hpp"
#include "launch/command.hpp"
#include "trainer/bench_data.hpp"
#include "trainer/torch_setup.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <system_error>

namespace triphase::launch {
namespace {

namespace fs = std::filesystem;

/// A folder for a build that nobody wants to keep; rank 0 makes and deletes it.
class ScratchFolder {
 public:
  ScratchFolder(const fs::path& parent, dist::ProcessGroup& group) : is_owner_(group.rank() == 0) {
    path_ = dist::broadcast_text(
        group, (parent / str("triphase-bench-", ::getpid())).string());
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (is_owner_) fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  bool is_owner_;
  fs::path path_;
};

/// Builds the manifest's cache under the specification of the one that is measured, and throws it
/// away. Collective.
Json time_build(data::CacheBuildOptions options, const fs::path& scratch, dist::Runtime& runtime) {
  const ScratchFolder folder(scratch, runtime.world());
  options.out_dir = folder.path();
  const double round = round_seconds(runtime.timeout_seconds());
  const auto start = std::chrono::steady_clock::now();
  const data::CachePlan plan = plan_cache_on_ranks(options, runtime.world(), round);
  const BuildReport report = build_cache_on_ranks(plan, runtime.world(), round, [] {});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const auto volumes = static_cast<double>(report.totals.num_volumes);
  return Json{{"volumes", report.totals.num_volumes},
              {"seconds", took.count()},
              {"num_ranks", runtime.num_ranks()},
              {"num_threads", options.num_threads},
              {"volumes_per_second", volumes / took.count()},
              {"bytes", report.totals.bytes}};
}

data::CacheBuildOptions build_options(const std::string& cache_folder, const std::string& manifest,
                                      const std::string& tokenizer, int num_threads) {
  const data::Cache cache(cache_folder);
  data::CacheBuildOptions options;
  options.manifest = manifest;
  options.tokenizer_dir =
      tokenizer.empty() ? options.manifest.parent_path() / "tokenizer" : fs::path(tokenizer);
  options.preprocess = cache.spec().preprocess;
  options.max_text_tokens = cache.spec().max_text_tokens;
  options.text_preparation = cache.spec().text_preparation;
  options.compression = cache.spec().compression;
  options.num_threads = num_threads;
  return options;
}

void print_figures(const Json& figures) {
  if (figures.contains("build"))
    std::printf("build    %10.2f volumes/s (%lld in %.2f s)\n",
                figures.at("build").at("volumes_per_second").get<double>(),
                figures.at("build").at("volumes").get<long long>(),
                figures.at("build").at("seconds").get<double>());
  for (const char* name : {"pread", "read"})
    std::printf("%-8s %10.3f ms a volume, %.0f MiB/s as stored\n", name,
                figures.at(name).at("milliseconds_per_volume").get<double>(),
                figures.at(name).at("mib_per_second").get<double>());
  std::printf("read     %10.2f of the speed of pread (checked and made float32)\n",
              figures.at("read_over_pread").get<double>());
  std::printf("loader   %10.1f volumes/s over %d ranks\n",
              figures.at("loader").at("volumes_per_second").get<double>(),
              figures.at("num_ranks").get<int>());
  std::printf("waiting  %10.2f %% of the time, at %.0f ms a volume and step\n",
              100 * figures.at("wait").at("share").get<double>(),
              1e3 * figures.at("wait").at("step_seconds_per_volume").get<double>());
}

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  trainer::DataBenchmarkOptions options;
  options.cache = arguments.text("cache");
  options.batch_size = arguments.integer("batch", options.batch_size, 1, 1 << 16);
  options.num_workers = static_cast<int>(arguments.integer("workers", 1, 1, 1024));
  options.step_seconds_per_volume =
      1e-3 * static_cast<double>(arguments.integer("step-ms", 100, 1, 1'000'000));
  options.steps = arguments.integer("steps", options.steps, 1, 1'000'000);
  const std::string manifest = arguments.text("manifest");
  const std::string tokenizer = arguments.text("tokenizer");
  const std::string scratch =
      arguments.text("scratch", fs::temp_directory_path().string());
  const auto threads = static_cast<int>(arguments.integer("threads", 1, 1, 1024));
  const std::string out = arguments.text("out");
  return [=, &runtime] {
    trainer::set_up_torch({}, runtime);
    Json figures = trainer::bench_data(options, runtime.world());
    if (!manifest.empty()) {
      data::CacheBuildOptions build;
      dist::agree_on(runtime.world(), [&] {
        build = build_options(options.cache, manifest, tokenizer, threads);
      });
      figures["build"] = time_build(build, scratch, runtime);
    }
    if (runtime.rank() != 0) return ExitCode::kDone;
    print_figures(figures);
    if (!out.empty()) write_json(out, figures);
    return ExitCode::kDone;
  };
}

}  // namespace

Command bench_data_command() {
  return {.spec = {.name = "bench data",
                   .summary = "times reading a cache, waiting for it in training, and building it",
                   .example = "  mpirun -np 2 triphase bench data --cache quickstart/cache --manifest "
                              "quickstart/cohort/manifest.csv",
                   .options = {{"cache", "DIR", "the cache", true},
                               {"batch", "N", "samples per rank and batch (default 8)"},
                               {"workers", "N", "reading threads per rank (default 1)"},
                               {"step-ms", "MS", "what a step takes for each volume of a rank (default 100)"},
                               {"steps", "N", "steps in which waiting is measured (default 10)"},
                               {"manifest", "FILE", "also build this manifest's cache, and throw it away"},
                               {"tokenizer", "DIR", "for that (default: tokenizer/ beside the manifest)"},
                               {"threads", "N", "for that, per rank (default 1)"},
                               {"scratch", "DIR", "for that, a folder with room (default: the temporary folder)"},
                               {"out", "FILE", "also write the figures as JSON"}}},
          .prepare = prepare};
}

}  // namespace triphase::launch
