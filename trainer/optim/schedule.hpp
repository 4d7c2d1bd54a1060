// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Updates of a whole run. @throws ConfigError when neither max_steps nor max_epochs is given
[[nodiscard]] std::int64_t total_steps(const ScheduleOptions& options,
                                       std::int64_t steps_per_epoch);

/// Factor on every learning rate for the update that leads from `step` to step + 1: a pure function
/// of the step. Warm-up: (step + 1) / warmup_steps, reaching 1 with the last warm-up step. Then,
/// with t = (step - warmup_steps) / (total - warmup_steps) in [0, 1): cosine (1 + cos(pi t)) / 2,
/// linear 1 - t, constant 1. Source: Loshchilov and Hutter, SGDR, 2017, equation 5 with one period
/// down to 0.
/// @param step in [0, total)
[[nodiscard]] double lr_factor(const ScheduleOptions& options, std::int64_t step,
                               std::int64_t total);

}  // namespace triphase::trainer
