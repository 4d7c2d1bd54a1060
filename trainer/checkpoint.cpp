// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "models/weights.hpp"
#include "trainer/checkpoint_files.hpp"
#include "trainer/optim/optimizer.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;
using models::NamedTensors;

const std::string kLogScale = "logit_scale";
const std::string kLogitBias = "logit_bias";

bool is_running_statistic(const std::string& name) {
  return name.ends_with(".running_mean") || name.ends_with(".running_var") ||
         name.ends_with(".num_batches_tracked");
}

/// What a checkpoint holds of the base network: everything under "full"; under "peft" what trains,
/// the log-scale and the bias (their first values are the run's, not the weights file's), and running
/// statistics that move.
bool is_saved(const std::string& name, const RunConfig& config,
              const std::set<std::string>& trained) {
  if (config.adapt.method == "full") return true;
  return trained.contains(name) || name == kLogScale || name == kLogitBias ||
         (config.model.batch_norm != "frozen" && is_running_statistic(name));
}

std::set<std::string> trained_names(models::TwoTower& model) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : models::trainable_parameters(model)) names.insert(name);
  return names;
}

NamedTensors saved_tensors(models::TwoTower& model, const RunConfig& config) {
  const std::set<std::string> trained = trained_names(model);
  NamedTensors saved;
  for (auto& [name, tensor] : models::base_state(model))
    if (is_saved(name, config, trained)) saved.emplace_back(name, tensor);
  for (auto& [name, tensor] : models::adapter_state(model)) saved.emplace_back(name, tensor);
  return saved;
}

/// hex xxh3 over the base weights that the checkpoint leaves out, as float32 in row-major order: a
/// wider dtype or another memory layout of the same weights does not matter.
std::string hash_unsaved(models::TwoTower& model, const RunConfig& config) {
  const at::NoGradGuard no_grad;
  const std::set<std::string> trained = trained_names(model);
  StreamingHash hash;
  for (const auto& [name, tensor] : models::base_state(model)) {
    if (is_saved(name, config, trained)) continue;
    const at::Tensor here = tensor.to(at::kCPU);
    const at::Tensor values =
        here.is_floating_point() ? here.to(at::kFloat).contiguous() : here.contiguous();
    hash.update(name);
    hash.update(std::as_bytes(
        std::span(static_cast<const char*>(values.const_data_ptr()), values.nbytes())));
  }
  return hex64(hash.digest());
}

Json state_json(const TrainState& state, const RunConfig& config, const std::string& base_hash) {
  return Json{{"step", state.step},
              {"epoch", state.epoch},
              {"step_in_epoch", state.step_in_epoch},
              {"pairs_seen", state.pairs_seen},
              {"best_value", state.best_value},
              {"best_step", state.best_step},
              {"validations_without_gain", state.validations_without_gain},
              {"skipped_steps", state.skipped_steps},
              {"consecutive_skips", state.consecutive_skips},
              {"data_hash", state.data_hash},
              {"preset", config.model.preset},
              {"method", config.adapt.method},
              {"base_hash", base_hash}};
}

TrainState state_from(const Json& json, const std::string& source) {
  TrainState state;
  state.step = json.at("step").get<std::int64_t>();
  state.epoch = json.at("epoch").get<std::int64_t>();
  state.step_in_epoch = json.at("step_in_epoch").get<std::int64_t>();
  state.pairs_seen = json.at("pairs_seen").get<std::int64_t>();
  state.best_value = json.at("best_value").get<double>();
  state.best_step = json.at("best_step").get<std::int64_t>();
  state.validations_without_gain = json.at("validations_without_gain").get<std::int64_t>();
  state.skipped_steps = json.at("skipped_steps").get<std::int64_t>();
  state.consecutive_skips = json.at("consecutive_skips").get<std::int64_t>();
  state.data_hash = json.at("data_hash").get<std::string>();
  const bool is_sane =
      state.step >= 0 && state.epoch >= 0 && state.step_in_epoch >= 0 && state.pairs_seen >= 0;
  TRIPHASE_CHECK(CheckpointError, is_sane, "'", source, "' holds a negative count");
  return state;
}

struct StateFile {
  TrainState state;
  std::string base_hash;  ///< see hash_unsaved()
};

StateFile read_state_file(const fs::path& folder) {
  const fs::path file = folder / "state.json";
  try {
    const Json json = read_json(file);
    return {state_from(json, file.string()), json.at("base_hash").get<std::string>()};
  } catch (const nlohmann::json::exception& error) {
    throw CheckpointError(str("'", file.string(), "' is malformed (", error.what(), ")"));
  }
}

/// One line for each tensor that one side has and the other has not, or in another shape.
std::vector<std::string> differences(const NamedTensors& model, const NamedTensors& file) {
  std::vector<std::string> lines;
  std::map<std::string, at::Tensor> given(file.begin(), file.end());
  for (const auto& [name, tensor] : model) {
    const auto found = given.find(name);
    if (found == given.end()) {
      lines.push_back(triphase::str("'", name, "' is not in the checkpoint"));
      continue;
    }
    if (found->second.sizes() != tensor.sizes())
      lines.push_back(
          triphase::str("'", name, "' is ", found->second.sizes(), " there, ", tensor.sizes(), " here"));
    given.erase(found);
  }
  for (const auto& [name, tensor] : given)
    lines.push_back(triphase::str("'", name, "' is in the checkpoint only"));
  return lines;
}

[[noreturn]] void throw_other_model(const fs::path& folder, const std::vector<std::string>& lines) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, lines.size()); ++i) text += "\n    " + lines[i];
  if (lines.size() > kShown) text += str("\n    and ", lines.size() - kShown, " more");
  throw CheckpointError(
      str("checkpoint '", folder.string(), "' belongs to another model:", text,
          "\n  Set model.* and adapt.* as in its config.toml, or start another run."));
}

void check_same_network(const fs::path& folder, models::TwoTower& model, const RunConfig& written) {
  const std::string& preset = model->options().preset;
  if (written.model.preset != preset)
    throw_other_model(
        folder, {str("model.preset is '", written.model.preset, "' there, '", preset, "' here")});
}

/// A run that goes on has built its model already: adapters that come with the checkpoint alone
/// would freeze what its optimizer holds, and so it is with a bias.
void check_same_parts(const fs::path& folder, models::TwoTower& model, const RunConfig& written) {
  if (has_logit_bias(written.loss) != model->logit_bias().defined())
    throw_other_model(folder, {str("loss.kind is '", written.loss.kind, "' there, another here")});
  const bool had_adapters = written.adapt.method == "peft" &&
                            (written.adapt.image.rank > 0 || written.adapt.text.rank > 0);
  if (had_adapters && models::adapter_state(model).empty())
    throw_other_model(folder, {"it has adapters (adapt.method 'peft'), the model has none"});
}

void load_weights_from(const fs::path& folder, models::TwoTower& model, const RunConfig& written,
                       const std::string& base_hash) {
  const bool is_bare = models::adapter_state(model).empty();
  if (written.adapt.method == "peft" && is_bare)
    models::apply_adapters(model, models::plan_adapters(model, written.adapt),
                           static_cast<std::uint64_t>(written.run.seed));
  const fs::path file = folder / "model.safetensors";
  const models::WeightsFile weights = models::read_safetensors(file);
  const std::vector<std::string> lines =
      differences(saved_tensors(model, written), weights.tensors);
  if (!lines.empty()) throw_other_model(folder, lines);
  const std::string here = hash_unsaved(model, written);
  if (here != base_hash)
    throw_other_model(folder, {str("the frozen weights have hash ", base_hash, " there, ", here,
                                   " here (model.weights there: '", written.model.weights, "')")});
  models::load_state(model, weights, {.strip_prefixes = {}, .allow_missing = {".*"}});
}

}  // namespace

fs::path write_checkpoint(const fs::path& checkpoints_dir, models::TwoTower& model,
                          const NamedTensors& optimizer_state, const TrainState& state,
                          const RunConfig& config) {
  const fs::path folder = checkpoints_dir / checkpoint_name(state.step);
  write_checkpoint_folder(folder, [&](const fs::path& inside) {
    std::vector<std::string> names{"model.safetensors", "optimizer.safetensors", "state.json",
                                   "config.toml"};
    models::write_safetensors(
        inside / names[0], saved_tensors(model, config),
        {{"format", "pt"}, {"preset", config.model.preset}, {"method", config.adapt.method}});
    models::write_safetensors(inside / names[1], optimizer_state);
    write_json(inside / names[2], state_json(state, config, hash_unsaved(model, config)));
    write_file_atomically(inside / names[3], config.resolved_toml);
    if (config.adapt.method == "peft" && !models::adapter_state(model).empty()) {
      models::write_peft_folder(inside / "adapter", model, peft_folder_plan(model, config));
      fsync_path(inside / "adapter");
      names.insert(names.end(),
                   {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"});
    }
    return names;
  });
  return folder;
}

models::AdapterPlan peft_folder_plan(models::TwoTower& model, const RunConfig& config) {
  models::AdaptOptions parts = config.adapt;
  if (config.model.batch_norm != "frozen") parts.train_batch_norms = true;
  return models::plan_adapters(model, parts);
}

RunConfig checkpoint_config(const fs::path& folder) {
  try {
    return load_run_config({.files = {folder / "config.toml"}, .environment = {}, .sets = {}});
  } catch (const Error& error) {
    throw CheckpointError(str("checkpoint '", folder.string(),
                              "': its config.toml cannot be read (", error.message(), ")"));
  }
}

void read_checkpoint(const fs::path& folder, models::TwoTower& model, Optimizer* optimizer,
                     TrainState* state) {
  verify_checkpoint(folder);
  const RunConfig written = checkpoint_config(folder);
  check_same_network(folder, model, written);
  const StateFile read = read_state_file(folder);
  if (optimizer != nullptr)
    check_same_parts(folder, model, written);
  else
    model->set_logit_bias(has_logit_bias(written.loss));
  load_weights_from(folder, model, written, read.base_hash);
  if (optimizer != nullptr) {
    const fs::path file = folder / "optimizer.safetensors";
    optimizer->load_state(models::read_safetensors(file).tensors, file.string());
  }
  if (state != nullptr) *state = read.state;
}

TrainState read_train_state(const fs::path& folder) { return read_state_file(folder).state; }

}  // namespace triphase::trainer
