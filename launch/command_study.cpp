// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"
#include "launch/run_options.hpp"
#include "trainer/study.hpp"
#include "trainer/train.hpp"

#include <cstdio>

namespace triphase::launch {
namespace {

ExitCode run(const trainer::StudyConfig& study, bool progress_shown, bool quiet, dist::Runtime& runtime) {
  trainer::install_stop_signals();
  const trainer::StudyOutcome outcome = trainer::run_study(study, runtime, progress_shown);
  if (outcome.stopped_on_request) {
    console_logger(quiet, runtime).info("stopped on request; start the same command again to go on");
    return ExitCode::kRequeue;
  }
  if (runtime.rank() == 0) std::printf("%s\n%s\n", outcome.table.c_str(), outcome.report.c_str());
  return ExitCode::kDone;
}

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::StudyConfig study = trainer::load_study_config(
      {.files = {arguments.text("config")}, .environment = config_environment(), .sets = arguments.all("set")});
  const bool progress_shown = shows_progress(arguments, runtime);
  if (arguments.has("dry-run"))
    return [study, &runtime] {
      if (runtime.rank() == 0) std::printf("%s\n", trainer::describe_study(study).c_str());
      return ExitCode::kDone;
    };
  const bool quiet = arguments.has("quiet");
  return [=, &runtime] { return run(study, progress_shown, quiet, runtime); };
}

}  // namespace

Command study_command() {
  return {.spec = {.name = "study",
                   .summary = "a grid of runs (method, temperature, seed), one table and one report",
                   .example = "  mpirun -np 2 triphase study --config configs/study_phantom.toml\n"
                              "  triphase study --config configs/study_phantom.toml --set study.seeds=[1,2] --dry-run",
                   .options = {{"config", "FILE", "study file with a [study] table", true},
                               {"set", "K=V", "one value, e.g. study.seeds=[1,2]; other tables' keys go to every run", false, true},
                               {"dry-run", "", "lists the runs and ends"}}},
          .prepare = prepare};
}

}  // namespace triphase::launch
