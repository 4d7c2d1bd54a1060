// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace triphase::dist {

/// Reads one environment variable; nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const char* name)>;

struct Launcher {
  std::string name;   ///< "mpirun", "srun", ..., or empty when started without one
  int num_ranks = 1;  ///< as the launcher says it; 2 stands for "several" where it does not say
};

/// How this process was started. Purely local.
///
/// Within a Slurm batch script SLURM_PROCID and SLURM_NTASKS are set although there is one process,
/// so it is SLURM_STEP_NUM_TASKS, which srun sets, that counts.
[[nodiscard]] Launcher find_launcher(const Environment& environment);

/// Of this process.
[[nodiscard]] std::optional<std::string> process_environment(const char* name);

}  // namespace triphase::dist
