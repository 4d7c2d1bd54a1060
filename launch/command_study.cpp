// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"
#include "launch/run_options.hpp"
#include "trainer/study/cell_estimate.hpp"
#include "trainer/study/run_study.hpp"
#include "trainer/train.hpp"

#include <cstdio>

namespace triphase::launch {
namespace {

ExitCode run(const trainer::StudyConfig& study, bool quiet, dist::Runtime& runtime) {
  trainer::install_stop_signals();
  const trainer::StudyOutcome outcome = trainer::run_study(study, runtime, !quiet);
  if (outcome.stopped_on_request) {
    console_logger(quiet, runtime).info("stopped on request; start the same command again to go on");
    return ExitCode::kRequeue;
  }
  if (runtime.rank() == 0) std::printf("%s\n%s\n", outcome.table.c_str(), outcome.report.c_str());
  return outcome.exit_code;
}

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::StudyConfig study = trainer::load_study_config(
      {.files = {arguments.text("config")}, .environment = config_environment(), .sets = arguments.all("set")});
  const auto num_ranks = static_cast<int>(arguments.integer("ranks", runtime.num_ranks(), 1, 1 << 20));
  const std::vector<trainer::StudyCell> cells = trainer::study_cells(study);
  if (arguments.has("dry-run")) {
    trainer::check_cells_fit(cells, trainer::ranks_per_group(study, num_ranks));
    const std::string text = runtime.rank() == 0 ? trainer::describe_study(study, cells, num_ranks) : "";
    return [text] {
      std::printf("%s", text.c_str());
      return ExitCode::kDone;
    };
  }
  const bool quiet = arguments.has("quiet");
  return [=, &runtime] { return run(study, quiet, runtime); };
}

}  // namespace

Command study_command() {
  return {.spec = {.name = "study",
                   .summary = "many runs (methods, temperatures, seeds, sites, any key), one table and one report",
                   .example = "  mpirun -np 2 triphase study --config configs/study_methods.toml --set study.groups=2\n"
                              "  triphase study --config configs/study_methods.toml --set study.axes.run.seed=[1,2] --dry-run",
                   .options = {{"config", "FILE", "study file with a [study] table", true},
                               {"set", "K=V", "one value, e.g. study.groups=2; other tables' keys go to every run", false, true},
                               {"dry-run", "", "lists the cells with status, steps and cost, and ends"},
                               {"ranks", "N", "with --dry-run: as if on so many ranks"}}},
          .prepare = prepare};
}

}  // namespace triphase::launch
