// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/logging.hpp"
#include "dist/runtime.hpp"
#include "launch/command_line.hpp"
#include "trainer/run_config.hpp"

namespace triphase::launch {

/// The run's configuration from --config, the environment and --set; gives its timeout to the runtime
/// and, with distributed.backend = "nccl", its groups a way for tensors on GPUs.
/// @throws ConfigError, also when distributed.backend does not fit how the program was started; CommError
///         where NCCL or a GPU is missing. Collective; may be the action of dist::agree_on().
[[nodiscard]] trainer::RunConfig config_from(const Arguments& arguments, dist::Runtime& runtime);

/// This rank's log, in <run_dir>/logs. The folder is made on rank 0 first. Collective.
[[nodiscard]] Logger run_logger(const trainer::RunConfig& config, bool quiet, dist::Runtime& runtime);

/// This rank's log on standard error alone, for what writes no run folder. Purely local.
[[nodiscard]] Logger console_logger(bool quiet, const dist::Runtime& runtime);

}  // namespace triphase::launch
