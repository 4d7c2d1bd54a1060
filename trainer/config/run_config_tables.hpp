// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// A word that the agreed design has and this build does not, with the reason.
struct RefusedWord {
  std::string word;
  std::string reason;
};

/// Reads the table's keys into `options`, in the order of design §5. Ranges are checked here; what
/// concerns two tables is checked by load_run_config(). @throws ConfigError with file:line:column
void read_run_table(ConfigReader& reader, RunOptions& options);
void read_data_table(ConfigReader& reader, DataOptions& options);
void read_cache_table(ConfigReader& reader, CacheOptions& options);
void read_model_table(ConfigReader& reader, ModelOptions& options);
void read_adapt_table(ConfigReader& reader, models::AdaptOptions& options);
void read_loss_table(ConfigReader& reader, LossOptions& options);
void read_batch_table(ConfigReader& reader, BatchOptions& options);
void read_optimizer_table(ConfigReader& reader, OptimizerOptions& options);
void read_schedule_table(ConfigReader& reader, ScheduleOptions& options);
void read_precision_table(ConfigReader& reader, PrecisionOptions& options);
void read_distributed_table(ConfigReader& reader, DistributedOptions& options);
void read_federated(ConfigReader& reader, FederatedOptions& options);
void read_checkpoint_table(ConfigReader& reader, CheckpointOptions& options);
void read_evaluate_table(ConfigReader& reader, EvaluateOptions& options);

/// Reads a number and checks low <= value <= high.
void read_range(ConfigReader& reader, const std::string& path, double& value, double low,
                double high);
void read_range(ConfigReader& reader, const std::string& path, std::int64_t& value,
                std::int64_t low, std::int64_t high);

/// Reads one of `allowed`; one of `refused` is an error that says why this build cannot do it.
void read_word(ConfigReader& reader, const std::string& path, std::string& value,
               const std::vector<std::string>& allowed,
               const std::vector<RefusedWord>& refused = {});

}  // namespace triphase::trainer
