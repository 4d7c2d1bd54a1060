// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/adapter_plan.hpp"
#include "models/files/weights_file.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

class Optimizer;  // of read_checkpoint()

/// Where a run stands: everything but tensors. Sample order and random numbers follow from these,
/// so they are the same on any number of ranks.
struct TrainState {
  std::int64_t step = 0;           ///< steps done, skipped ones included
  std::int64_t epoch = 0;          ///< epoch of the next step
  std::int64_t step_in_epoch = 0;  ///< steps of it already done
  std::int64_t pairs_seen = 0;
  double best_value = 0;        ///< of checkpoint.keep_best
  std::int64_t best_step = -1;  ///< -1: none yet
  std::int64_t validations_without_gain = 0;
  std::int64_t skipped_steps = 0;      ///< steps without an update because a number was not finite
  std::int64_t consecutive_skips = 0;  ///< the last ones of them
  std::string data_hash;               ///< of the cache that the run reads
};

/// A checkpoint is a folder step_00001000/ with model.safetensors (full: all weights; peft: what
/// trains, with buffers that moved), optimizer.safetensors, state.json, config.toml, for peft
/// adapter/ as Python peft reads it, manifest.json (size and xxh3 of each file) and, last,
/// COMPLETE. It is written under a temporary name and renamed; one that stands there already is
/// replaced. Rank 0 writes; the caller agrees on success.
/// @param optimizer_state of Optimizer::state()
/// @throws IoError
std::filesystem::path write_checkpoint(const std::filesystem::path& checkpoints_dir,
                                       models::TwoTower& model,
                                       const models::NamedTensors& optimizer_state,
                                       const TrainState& state, const RunConfig& config);

/// The newest complete and undamaged checkpoint; damaged ones are named through `warn` and passed
/// over.
[[nodiscard]] std::optional<std::filesystem::path> newest_checkpoint(
    const std::filesystem::path& checkpoints_dir,
    const std::function<void(const std::string&)>& warn);

/// Checks COMPLETE, manifest and hashes. @throws CheckpointError (65, or 66 when there is none)
/// naming the file
void verify_checkpoint(const std::filesystem::path& folder);

/// Loads weights (adapting the model first, as the checkpoint's config says, when `model` is bare)
/// and, when given, optimizer and state. A peft checkpoint holds no frozen weights: `model` must
/// bring the same ones, which is checked by hash. Verifies the checkpoint first.
/// @throws CheckpointError when it belongs to another model, naming the differences
void read_checkpoint(const std::filesystem::path& folder, models::TwoTower& model,
                     Optimizer* optimizer, TrainState* state);

/// Where the run of a checkpoint stood. @throws CheckpointError naming what is malformed
[[nodiscard]] TrainState read_train_state(const std::filesystem::path& folder);

/// Deletes all but the newest `keep_last` complete checkpoints and `keep`, and leftovers of killed
/// writers.
void prune_checkpoints(const std::filesystem::path& checkpoints_dir, std::int64_t keep_last,
                       const std::vector<std::string>& keep);

/// Points checkpoints/best at one of the checkpoints, atomically. @throws IoError
void mark_best_checkpoint(const std::filesystem::path& checkpoints_dir, const std::string& name);

/// What a peft folder of a run holds: what its configuration trains, and norms whose statistics
/// move, as peft carries a module whole or not at all. @param model adapted by that run
[[nodiscard]] models::AdapterPlan peft_folder_plan(models::TwoTower& model,
                                                   const RunConfig& config);

/// "step_00001000".
[[nodiscard]] std::string checkpoint_name(std::int64_t step);

/// The configuration that a checkpoint was written under. @throws CheckpointError
[[nodiscard]] RunConfig checkpoint_config(const std::filesystem::path& folder);

}  // namespace triphase::trainer
