// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "dist/process_group.hpp"
#include "models/adapter_plan.hpp"
#include "trainer/loop/train_data.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Paths inside a run folder.
struct RunFolder {
  std::filesystem::path root;
  [[nodiscard]] std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  [[nodiscard]] std::filesystem::path metrics() const { return root / "metrics.jsonl"; }
  [[nodiscard]] std::filesystem::path halt() const { return root / "halt"; }
};

/// Where a run starts: a checkpoint, or nothing for its first step. Makes the run folder. Rank 0's.
/// @param resume "never", "auto", or a checkpoint or run folder
/// @throws ConfigError when the folder holds a run already and `resume` does not continue it;
/// CheckpointError;
///         IoError (73, 77) when it cannot be made
[[nodiscard]] std::optional<std::filesystem::path> open_run_folder(
    const RunFolder& folder, const std::string& resume,
    const std::function<void(const std::string&)>& warn);

/// What the run is on, beside its configuration.
struct RunFacts {
  std::vector<std::string> hosts;  ///< by rank
  int threads = 1;                 ///< per rank
  std::string device;              ///< "cpu", or the GPU's model
  std::string mpi;                 ///< the library's version; "" without MPI
  std::string backend;             ///< of the group
  std::int64_t num_updates = 0;    ///< of the whole run
  std::int64_t updates_per_epoch = 0;
};

/// environment.json: versions, hosts, threads, data hash, adapter table, trainable parameters with
/// their denominator, bytes.
[[nodiscard]] Json environment_json(const RunConfig& config, const TrainData& data,
                                    const models::AdapterPlan& plan, const RunFacts& facts);

/// Bytes by what they hold; `element` is 4 or 8.
struct MemoryEstimate {
  std::int64_t weights = 0;
  std::int64_t gradients = 0;
  std::int64_t moments = 0;
  [[nodiscard]] std::int64_t total() const { return weights + gradients + moments; }
};
[[nodiscard]] MemoryEstimate estimate_memory(const models::AdapterPlan& plan,
                                             const PrecisionOptions& precision);

}  // namespace triphase::trainer
