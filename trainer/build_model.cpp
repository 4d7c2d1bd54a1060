// SPDX-License-Identifier: Apache-2.0
#include "trainer/build_model.hpp"

#include <ATen/ATen.h>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "dist/runtime.hpp"
#include "models/adapter_plan.hpp"
#include "models/weights.hpp"
#include "trainer/checkpoint.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

/// Checkpoints whose base is another checkpoint, and so on: deeper than anyone goes, and the end of
/// a circle.
constexpr int kDeepestBase = 16;

bool is_checkpoint(const fs::path& path) {
  return fs::is_directory(path) && fs::exists(path / "COMPLETE") &&
         fs::exists(path / "manifest.json");
}

/// What the file checkpoints/best points at.
fs::path marked_checkpoint(const fs::path& mark) {
  constexpr std::int64_t kNameBytesMax = 64;
  std::string name = read_file(mark, kNameBytesMax);
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r')) name.pop_back();
  const fs::path folder = mark.parent_path() / name;
  TRIPHASE_CHECK(CheckpointError, name.starts_with("step_") && fs::path(name).filename() == name,
                 "'", mark.string(), "' does not name a checkpoint. Give the checkpoint's folder.");
  TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput, is_checkpoint(folder), "'", mark.string(),
                      "' names '", name,
                      "', which is not there or not complete. Give another checkpoint's folder.");
  return folder;
}

fs::path run_checkpoint(const fs::path& run_dir) {
  const fs::path checkpoints = run_dir / "checkpoints";
  if (fs::exists(checkpoints / "best")) return marked_checkpoint(checkpoints / "best");
  std::string passed_over;
  const auto newest = newest_checkpoint(
      checkpoints, [&](const std::string& line) { passed_over += "\n  " + line; });
  TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput, newest.has_value(), "run folder '",
                      run_dir.string(), "' has no complete checkpoint.", passed_over);
  return *newest;
}

/// Towers hold collectives under "sync", so a rank that fails alone must be heard by those that wait
/// for it: every gather begins with the agreement that agree_on() ends with.
models::GatherRows gather_rows(dist::ProcessGroup& group) {
  return [&group](const at::Tensor& row) {
    dist::agree(group, std::nullopt);
    return group.all_gather(row.unsqueeze(0))->wait();
  };
}

models::TwoTower build_base(const RunConfig& config, int depth) {
  TRIPHASE_CHECK(CheckpointError, depth < kDeepestBase, "model.weights '", config.model.weights,
                 "': its checkpoint rests on another one, and so on for ", kDeepestBase,
                 " times. Merge one of them first (triphase weights merge).");
  const std::optional<fs::path> checkpoint =
      config.model.weights == "random" ? std::nullopt : resolve_checkpoint(config.model.weights);
  if (!checkpoint) {
    models::TwoTower model = make_bare_model(config);
    models::LoadOptions options;
    options.allow_missing = config.model.allow_missing;
    models::load_weights(model, config.model.weights, static_cast<std::uint64_t>(config.run.seed),
                         options);
    return model;
  }
  const RunConfig trained = checkpoint_config(*checkpoint);
  if (trained.adapt.method == "full") {
    models::TwoTower model = make_bare_model(config);
    read_checkpoint(*checkpoint, model, nullptr, nullptr);
    return model;
  }
  RunConfig base = config;
  base.model.weights = trained.model.weights;
  base.run.seed = trained.run.seed;
  models::TwoTower model = build_base(base, depth + 1);
  read_checkpoint(*checkpoint, model, nullptr, nullptr);
  models::merge_adapters(model);
  for (at::Tensor& parameter : model->parameters()) parameter.set_requires_grad(true);
  return model;
}

}  // namespace

models::TwoTower make_bare_model(const RunConfig& config) {
  models::TwoTower model(models::model_preset(config.model.preset));
  set_execution(model, config.model.batch_norm, config.precision.recompute);
  return model;
}

models::TwoTower build_base_model(const RunConfig& config) {
  models::TwoTower model = build_base(config, 0);
  model->set_logit_bias(false);
  return model;
}

void set_execution(models::TwoTower& model, const std::string& batch_norm,
                   const std::string& recompute, dist::ProcessGroup* group) {
  const models::BatchNormMode norm = batch_norm == "local"  ? models::BatchNormMode::kLocal
                                     : batch_norm == "sync" ? models::BatchNormMode::kSync
                                                            : models::BatchNormMode::kFrozen;
  const bool shares = norm == models::BatchNormMode::kSync && group != nullptr;
  model->image_tower()->set_batch_norm(norm, shares ? gather_rows(*group) : models::GatherRows());
  const models::Recompute mode = recompute == "blocks"   ? models::Recompute::kBlocks
                                 : recompute == "stages" ? models::Recompute::kStages
                                                         : models::Recompute::kNone;
  model->image_tower()->set_recompute(mode);
  model->text_tower()->set_recompute(mode);
}

void apply_precision(models::TwoTower& model, const RunConfig& config,
                     const at::Device& device) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> tensors = model->parameters();
  const std::vector<at::Tensor> buffers = model->buffers();
  tensors.insert(tensors.end(), buffers.begin(), buffers.end());
  for (at::Tensor& tensor : tensors) {
    // Module::to() would make doubles of BatchNorm's counters, too.
    if (tensor.device() != device) tensor.set_data(tensor.to(device));
    if (config.precision.compute == "float64" && tensor.is_floating_point())
      tensor.set_data(tensor.to(at::kDouble));
    if (config.precision.memory_format == "channels_last_3d" && tensor.dim() == 5)
      tensor.set_data(tensor.contiguous(at::MemoryFormat::ChannelsLast3d));
  }
}

std::optional<fs::path> resolve_checkpoint(const fs::path& path) {
  if (is_checkpoint(path)) return path;
  if (path.filename() == "model.safetensors" && is_checkpoint(path.parent_path()))
    return path.parent_path();
  if (path.filename() == "best" && fs::is_regular_file(path)) return marked_checkpoint(path);
  if (fs::is_directory(path / "checkpoints")) return run_checkpoint(path);
  return std::nullopt;
}

std::string hash_weights(models::TwoTower& model) {
  const at::NoGradGuard no_grad;
  StreamingHash hash;
  for (const bool adapters : {false, true}) {
    for (const auto& [name, tensor] :
         adapters ? models::adapter_state(model) : models::base_state(model)) {
      const at::Tensor values = tensor.to(at::kCPU).contiguous();
      hash.update(name);
      hash.update(std::as_bytes(
          std::span(static_cast<const char*>(values.const_data_ptr()), values.nbytes())));
    }
  }
  return hex64(hash.digest());
}

}  // namespace triphase::trainer
