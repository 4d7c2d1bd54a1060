// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/logging.hpp"
#include "dist/runtime.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

struct TrainRequest {
  std::string resume =
      "never";  ///< "auto": the run folder's newest complete checkpoint; "never"; or a folder
  bool show_progress = true;  ///< on rank 0
};

struct TrainResult {
  std::int64_t steps = 0;
  bool stopped_on_request = false;  ///< signal, halt file or run.max_seconds; exit with 75
  std::string best_checkpoint;      ///< folder; the last one when nothing was validated
  std::string last_checkpoint;
};

/// One whole run: data, model, adapters, loop, validation, checkpoints, metrics.jsonl, in
/// config.run_dir(). Collective over runtime.world().
/// @throws every Error kind; failures that only one rank sees are agreed first (dist::AgreedError)
[[nodiscard]] TrainResult train(const RunConfig& config, const TrainRequest& request,
                                dist::Runtime& runtime, Logger& log);

/// What a run would do on `num_ranks` ranks, without doing it: adapter table, steps, batches,
/// bytes, memory.
[[nodiscard]] std::string describe_run(const RunConfig& config, int num_ranks);

/// Makes SIGUSR1 (and SIGTERM) ask for a stop; the loop looks at it once a step.
void install_stop_signals();

}  // namespace triphase::trainer
