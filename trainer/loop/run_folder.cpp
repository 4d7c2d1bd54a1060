// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/run_folder.hpp"

#include <torch/headeronly/version.h>

#include <set>

#include "base/file.hpp"
#include "data/library_versions.hpp"
#include "trainer/checkpoint_files.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

/// What may lie in a run folder before its training: logs are opened first, evaluation stands on
/// its own feet.
const std::set<std::string> kNotTraining{"logs", "evaluation"};

bool holds_a_run(const fs::path& root) {
  if (!fs::exists(root)) return false;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (kNotTraining.contains(entry.path().filename().string())) continue;
    // A start that failed leaves an empty one.
    if (entry.path().filename() != "checkpoints" || !fs::is_empty(entry.path())) return true;
  }
  return false;
}

bool is_inside(const fs::path& path, const fs::path& folder) {
  const fs::path relative =
      fs::weakly_canonical(path).lexically_relative(fs::weakly_canonical(folder));
  return !relative.empty() && *relative.begin() != "..";
}

/// A checkpoint folder as given, or a run folder's newest.
fs::path named_checkpoint(const std::string& resume,
                          const std::function<void(const std::string&)>& warn) {
  const fs::path path(resume);
  if (fs::is_directory(path / "checkpoints")) {
    const std::optional<fs::path> newest = newest_checkpoint(path / "checkpoints", warn);
    TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput, newest.has_value(), "--resume '", resume,
                        "': the run folder has no complete checkpoint");
    return *newest;
  }
  verify_checkpoint(path);
  return path;
}

/// A run that goes on from an earlier checkpoint makes the later steps again: what was saved of
/// them would otherwise be taken for its own by the next --resume auto.
void drop_later_checkpoints(const fs::path& checkpoint) {
  for (const std::string& name : checkpoint_names(checkpoint.parent_path())) {
    if (name == checkpoint.filename().string()) return;  // the newest come first
    fs::remove(checkpoint.parent_path() / name / "COMPLETE");
    fs::remove_all(checkpoint.parent_path() / name);
  }
}

Json adapter_rows(const models::AdapterPlan& plan) {
  Json rows = Json::array();
  for (const models::AdapterPlanRow& row : plan.rows)
    if (row.num_trainable > 0)
      rows.push_back(Json{{"module", row.module},
                          {"part", row.part},
                          {"rank", row.rank},
                          {"num_trainable", row.num_trainable},
                          {"num_parameters", row.num_parameters}});
  return rows;
}

std::int64_t element_bytes(const PrecisionOptions& precision) {
  return precision.compute == "float64" ? 8 : 4;
}

}  // namespace

std::optional<fs::path> open_run_folder(const RunFolder& folder, const std::string& resume,
                                        const std::function<void(const std::string&)>& warn) {
  const bool is_used = holds_a_run(folder.root);
  if (resume == "never") {
    TRIPHASE_CHECK(ConfigError, !is_used, "run folder '", folder.root.string(),
                   "' is not empty (it holds a run). Continue that run with --resume auto, or give "
                   "run.name another "
                   "value.");
    make_output_directory(folder.checkpoints());
    return std::nullopt;
  }
  std::optional<fs::path> checkpoint;
  if (resume == "auto") {
    checkpoint = newest_checkpoint(folder.checkpoints(), warn);
  } else {
    checkpoint = named_checkpoint(resume, warn);
    TRIPHASE_CHECK(ConfigError, !is_used || is_inside(*checkpoint, folder.root), "run folder '",
                   folder.root.string(), "' holds a run of its own, and --resume names '", resume,
                   "' of another one. Use --resume auto, or give run.name another value.");
    if (is_used) drop_later_checkpoints(*checkpoint);
  }
  make_output_directory(folder.checkpoints());
  return checkpoint;
}

MemoryEstimate estimate_memory(const models::AdapterPlan& plan, const PrecisionOptions& precision) {
  const std::int64_t element = element_bytes(precision);
  std::int64_t num_factors = 0;
  for (const models::AdapterPlanRow& row : plan.rows)
    if (row.part == "adapted") num_factors += row.num_trainable;
  return {.weights = element * (plan.num_base_parameters + num_factors),
          .gradients = element * plan.num_trainable,
          .moments = 2 * element * plan.num_trainable};
}

Json environment_json(const RunConfig& config, const TrainData& data,
                      const models::AdapterPlan& plan, const RunFacts& facts) {
  const MemoryEstimate memory = estimate_memory(plan, config.precision);
  Json json;
  json["versions"] =
      Json{{"libtorch", TORCH_VERSION}, {"hdf5", data::hdf5_version()}, {"mpi", facts.mpi}};
  json["num_ranks"] = facts.hosts.size();
  json["hosts"] = facts.hosts;
  json["backend"] = facts.backend;
  json["threads_per_rank"] = facts.threads;
  json["device"] = facts.device;
  json["data"] = Json{{"cache", config.data.cache},
                      {"data_hash", data.cache->data_hash()},
                      {"spec_hash", data.cache->spec().hash()},
                      {"num_train", data.train.size()},
                      {"num_validation", data.validation.size()}};
  json["model"] = Json{{"preset", config.model.preset},
                       {"weights", config.model.weights},
                       {"method", config.adapt.method},
                       {"num_trainable", plan.num_trainable},
                       {"num_base_parameters", plan.num_base_parameters},
                       {"trainable_percent", plan.trainable_percent()},
                       {"trainable_percent_of", "all parameters of the network without adapters"},
                       {"trained_modules", adapter_rows(plan)}};
  json["steps"] = Json{{"total", facts.num_updates}, {"per_epoch", facts.updates_per_epoch}};
  json["bytes"] = Json{{"gradients_reduced_per_step", memory.gradients},
                       {"weights", memory.weights},
                       {"gradients", memory.gradients},
                       {"moments", memory.moments}};
  return json;
}

}  // namespace triphase::trainer
