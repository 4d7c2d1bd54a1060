// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// How the configuration in `file` (a run's config.toml, or the one beside an evaluation) differs
/// from `now`, one line a key: "optimizer.lr is 0.004 there, 0.001 here". Empty: its results are
/// those of `now`. What decides no number may differ: where a run lies, and how it logs, saves,
/// reads and waits (run.output_dir, run.log_every_steps, run.max_seconds, data.workers,
/// checkpoint.every_steps, checkpoint.keep_last, distributed.backend, distributed.overlap,
/// distributed.timeout_seconds).
/// A file that this program cannot read differs. Purely local.
[[nodiscard]] std::vector<std::string> differing_settings(const std::filesystem::path& file,
                                                          const RunConfig& now);

}  // namespace triphase::trainer
