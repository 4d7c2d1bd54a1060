// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/schedule.hpp"

#include <cmath>
#include <numbers>

namespace triphase::trainer {

std::int64_t total_steps(const ScheduleOptions& options, std::int64_t steps_per_epoch) {
  TRIPHASE_CHECK(
      ConfigError, options.max_steps > 0 || options.max_epochs > 0,
      "neither schedule.max_steps nor schedule.max_epochs is given. Say how long to train.");
  const std::int64_t total =
      options.max_steps > 0 ? options.max_steps : options.max_epochs * steps_per_epoch;
  TRIPHASE_CHECK(ConfigError, options.warmup_steps <= total, "schedule.warmup_steps is ",
                 options.warmup_steps, " and the run has ", total,
                 " steps. Lower the warm-up or train longer.");
  return total;
}

double lr_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t total) {
  TRIPHASE_CHECK(InternalError, step >= 0 && step < total, "step ", step, " of ", total);
  if (step < options.warmup_steps)
    return static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  const double progress = static_cast<double>(step - options.warmup_steps) /
                          static_cast<double>(total - options.warmup_steps);
  if (options.kind == "cosine") return 0.5 * (1 + std::cos(std::numbers::pi * progress));
  if (options.kind == "linear") return 1 - progress;
  return 1;
}

}  // namespace triphase::trainer
