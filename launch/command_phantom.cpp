// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "base/parallel.hpp"
#include "base/progress.hpp"
#include "data/phantom.hpp"
#include "launch/command.hpp"

#include <malloc.h>

#include <cstdio>

namespace triphase::launch {
namespace {

/// Every patient needs the same few megabytes again: kept, they need not be cleared by the kernel each time.
void keep_freed_memory() {
  constexpr int kKeptBytes = 64 << 20;
  constexpr int kLargestKeptBytes = 32 << 20;  // of one allocation; what glibc allows
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
  mallopt(M_MMAP_THRESHOLD, kLargestKeptBytes);
}

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  TRIPHASE_CHECK(ConfigError, runtime.num_ranks() == 1,
                 "triphase phantom runs on one rank (it uses threads). Start it without mpirun; --threads N "
                 "sets how many.");
  data::PhantomOptions options;
  options.out_dir = arguments.text("out");
  options.size = arguments.text("size", options.size);
  options.num_patients = arguments.integer("patients", 0, 1, data::kPhantomPatientsMax);
  options.seed = static_cast<std::uint64_t>(arguments.integer("seed", 0, 0, INT64_MAX));
  options.num_threads = static_cast<int>(arguments.integer("threads", available_cores(), 1, 1024));
  const auto diameter = [&](const char* option, double absent) {
    return arguments.number(option, absent, data::kPhantomLesionMinMm, data::kPhantomLesionMaxMm);
  };
  options.lesion_diameter_min_mm = diameter("lesion-min-mm", options.lesion_diameter_min_mm);
  options.lesion_diameter_max_mm = diameter("lesion-max-mm", options.lesion_diameter_max_mm);
  options.lesion_contrast =
      arguments.number("lesion-contrast", options.lesion_contrast, 0, data::kPhantomLesionContrastMax);
  options.hcc_prevalence = arguments.number("hcc-prevalence", options.hcc_prevalence, 0, 1);
  const bool progress_shown = shows_progress(arguments, runtime);
  return [options, progress_shown] {
    keep_freed_memory();
    Progress progress("phantom patients", data::phantom_num_patients(options), {.enabled = progress_shown});
    data::write_phantom_cohort(options, [&progress] { progress.advance(); });
    progress.finish();
    std::printf("%s\n", (options.out_dir / "manifest.csv").c_str());
    return ExitCode::kDone;
  };
}

}  // namespace

Command phantom_command() {
  return {.spec = {.name = "phantom",
                   .summary = "writes a synthetic multi-site cohort: NIfTI volumes, manifest, prompts, tokenizer",
                   .example = "  triphase phantom --out runs/phantom --size small --seed 1",
                   .options = {{"out", "DIR", "where to write", true},
                               {"size", "SIZE", "tiny, small (default) or merlin"},
                               {"patients", "N", "number of patients (default: the size's own)"},
                               {"seed", "S", "same seed, same cohort (default 0)"},
                               {"threads", "N", "threads (default: all cores)"},
                               {"lesion-min-mm", "MM", "smallest HCC diameter (default 26)"},
                               {"lesion-max-mm", "MM", "largest HCC diameter (default 64)"},
                               {"lesion-contrast", "F", "factor on the HCC contrast (default 1)"},
                               {"hcc-prevalence", "P", "share of patients with HCC (default 0.4)"}}},
          .prepare = prepare};
}

}  // namespace triphase::launch
