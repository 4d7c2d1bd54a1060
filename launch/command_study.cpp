// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"
#include "trainer/study.hpp"

#include <cstdio>

namespace triphase::launch {
namespace {

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  ConfigSources sources{.files = {arguments.text("config")}, .environment = {}, .sets = arguments.all("set")};
  const trainer::StudyConfig study = trainer::load_study_config(sources);
  const bool progress_shown = shows_progress(arguments, runtime);
  if (arguments.has("dry-run"))
    return [study, &runtime] {
      if (runtime.rank() == 0) std::printf("%s\n", trainer::describe_study(study).c_str());
      return ExitCode::kDone;
    };
  return [study, progress_shown, &runtime] {
    const trainer::StudyOutcome outcome = trainer::run_study(study, runtime, progress_shown);
    if (outcome.stopped_on_request) return ExitCode::kRequeue;
    if (runtime.rank() == 0) std::printf("%s\n%s\n", outcome.table.c_str(), outcome.report.c_str());
    return ExitCode::kDone;
  };
}

}  // namespace

Command study_command() {
  return {.spec = {.name = "study",
                   .summary = "a grid of runs (method, temperature, seed), one table and one report",
                   .example = "  mpirun -np 2 triphase study --config configs/study_phantom.toml",
                   .options = {{"config", "FILE", "study file with a [study] table", true},
                               {"set", "K=V", "one value, e.g. study.seeds=[1,2]", false, true},
                               {"dry-run", "", "lists the runs and ends"}}},
          .prepare = prepare};
}

}  // namespace triphase::launch
