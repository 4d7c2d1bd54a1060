// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_model.hpp"

#include "models/weights.hpp"
#include "trainer/build_model.hpp"
#include "trainer/checkpoint.hpp"

#include <filesystem>

namespace triphase::trainer {
namespace {

/// The folder's own name, also where its path ends with a slash.
std::string folder_name(const std::filesystem::path& folder) {
  const auto path = std::filesystem::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

/// Last part of the run's folder and of the checkpoint: tells it apart without the user's folders.
std::string checkpoint_id(const std::filesystem::path& folder) {
  const auto run = std::filesystem::absolute(folder).lexically_normal();
  return (run.parent_path().parent_path().filename() / run.filename()).string();
}

}  // namespace

LoadedModel read_model(const RunConfig& config, const std::string& checkpoint) {
  LoadedModel loaded;
  RunConfig base = config;
  const auto folder = checkpoint.empty() ? std::nullopt : resolve_checkpoint(checkpoint);
  if (!folder && models::is_peft_folder(checkpoint)) {
    loaded.model = build_base_model(base);
    models::read_peft_folder(checkpoint, loaded.model);
    loaded.checkpoint = folder_name(checkpoint);
    loaded.adapt_method = "peft";
  } else if (!folder) {
    if (!checkpoint.empty()) base.model.weights = checkpoint;
    loaded.checkpoint = base.model.weights;
    loaded.model = build_base_model(base);
  } else {
    const RunConfig trained = checkpoint_config(*folder);
    base.run.seed = trained.run.seed;
    if (trained.adapt.method == "full") base.model.weights = "random";  // all of it is replaced
    loaded.model = build_base_model(base);
    TrainState state;
    read_checkpoint(*folder, loaded.model, nullptr, &state);
    loaded.checkpoint = checkpoint_id(*folder);
    loaded.adapt_method = trained.adapt.method;
    loaded.step = state.step;
  }
  return loaded;
}

LoadedModel load_model_for_evaluation(const RunConfig& config, const std::string& checkpoint,
                                      const at::Device& device) {
  LoadedModel loaded = read_model(config, checkpoint);
  apply_precision(loaded.model, config, device);
  loaded.model->eval();
  return loaded;
}

}  // namespace triphase::trainer
