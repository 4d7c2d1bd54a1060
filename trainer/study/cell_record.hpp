// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// What a run's metrics.jsonl and environment.json say of its training. Absent: not there.
struct CellRecord {
  std::optional<std::int64_t> steps;
  std::optional<double> temperature;       ///< at the last logged step
  std::optional<double> seconds_per_pair;  ///< mean over the logged steps
  std::optional<std::int64_t> bytes_per_step;  ///< that a rank handed to collectives of gradients, or in a federated round of weights
  std::optional<std::int64_t> num_trainable;
  double trainable_percent = 0;
};

/// Lines that are no record are passed over. Never throws for what is not there.
[[nodiscard]] CellRecord read_cell_record(const RunConfig& config);

}  // namespace triphase::trainer
