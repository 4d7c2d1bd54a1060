// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "launch/command.hpp"
#include "launch/run_options.hpp"
#include "trainer/train.hpp"

#include <cstdio>

namespace triphase::launch {
namespace {

ExitCode print_only(const std::string& text, const dist::Runtime& runtime) {
  if (runtime.rank() == 0) std::printf("%s\n", text.c_str());
  return ExitCode::kDone;
}

ExitCode train(const trainer::RunConfig& config, const trainer::TrainRequest& request, bool quiet,
               dist::Runtime& runtime) {
  trainer::install_stop_signals();
  Logger log = run_logger(config, quiet, runtime);
  const trainer::TrainResult result = trainer::train(config, request, runtime, log);
  if (result.stopped_on_request) {
    log.info("stopped on request after step ", result.steps, "; start the same command with --resume auto");
    return ExitCode::kRequeue;
  }
  if (runtime.rank() == 0) std::printf("%s\n", result.best_checkpoint.c_str());
  return ExitCode::kDone;
}

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::RunConfig config = config_from(arguments, runtime);
  TRIPHASE_CHECK(ConfigError, !arguments.has("ranks") || arguments.has("dry-run"),
                 "--ranks says for how many ranks --dry-run reckons. Leave it out, or start the ranks with mpirun.");
  if (arguments.has("print-config"))
    return [config, &runtime] { return print_only(config.origins_toml, runtime); };
  if (arguments.has("dry-run")) {
    const auto num_ranks = static_cast<int>(arguments.integer("ranks", runtime.num_ranks(), 1, 1 << 20));
    return [config, num_ranks, &runtime] {
      return runtime.rank() == 0 ? print_only(trainer::describe_run(config, num_ranks), runtime)
                                 : ExitCode::kDone;
    };
  }
  const trainer::TrainRequest request{.resume = arguments.text("resume", "never"),
                                      .show_progress = shows_progress(arguments, runtime)};
  const bool quiet = arguments.has("quiet");
  return [config, request, quiet, &runtime] { return train(config, request, quiet, runtime); };
}

}  // namespace

Command train_command() {
  return {.spec = {.name = "train",
                   .summary = "adapts a model",
                   .example = "  mpirun -np 2 triphase train --config configs/phantom_full.toml "
                              "--config configs/phantom_peft.toml\n"
                              "  triphase train --config configs/merlin_peft.toml --set optimizer.lr=3e-4 --resume auto",
                   .options = {{"config", "FILE", "run file; several allowed, the later wins", true, true},
                               {"set", "K=V", "one value, e.g. adapt.image.rank=4", false, true},
                               {"resume", "HOW", "never (default), auto, or a checkpoint folder"},
                               {"dry-run", "", "prints what the run would do and ends"},
                               {"ranks", "N", "with --dry-run: reckon for N ranks"},
                               {"print-config", "", "prints every value and where it came from, and ends"}}},
          .prepare = prepare};
}

}  // namespace triphase::launch
