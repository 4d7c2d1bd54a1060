// SPDX-License-Identifier: Apache-2.0
#include "trainer/shared_weights.hpp"

#include <ATen/ATen.h>

#include "base/json.hpp"
#include "dist/runtime.hpp"
#include "models/adapter_plan.hpp"
#include "models/weights.hpp"
#include "trainer/broadcast_values.hpp"

namespace triphase::trainer {
namespace {

/// A model's structure beyond its preset, and where it came from.
Json describe(LoadedModel& loaded) {
  Json json{{"checkpoint", loaded.checkpoint},
            {"adapt_method", loaded.adapt_method},
            {"step", loaded.step},
            {"logit_bias", loaded.model->logit_bias().defined()},
            {"adapters", Json::array()}};
  for (const auto& [path, options] : models::adapted_modules(loaded.model))
    json["adapters"].push_back({path, options.rank, options.alpha, options.dropout, options.rslora,
                                options.execution == models::AdapterExecution::kMerged});
  return json;
}

/// Makes of a bare model what describe() was called with, but for the weights.
void build_as(const Json& json, LoadedModel& loaded) {
  loaded.checkpoint = json.at("checkpoint");
  loaded.adapt_method = json.at("adapt_method");
  loaded.step = json.at("step");
  loaded.model->set_logit_bias(json.at("logit_bias"));
  std::vector<std::pair<std::string, models::LowRankOptions>> adapters;
  for (const Json& each : json.at("adapters"))
    adapters.emplace_back(
        each[0].get<std::string>(),
        models::LowRankOptions{.rank = each[1],
                               .alpha = each[2],
                               .dropout = each[3],
                               .rslora = each[4],
                               .execution = each[5].get<bool>()
                                                ? models::AdapterExecution::kMerged
                                                : models::AdapterExecution::kTwoPath});
  models::adapt_modules(loaded.model, adapters);
}

}  // namespace

models::TwoTower build_base_model_on_nodes(const RunConfig& config, dist::ProcessGroup& group,
                                           dist::ProcessGroup& node, const ReadModel& read) {
  const bool reads = node.rank() == 0 || config.model.weights == "random";
  models::TwoTower model{nullptr};
  dist::agree_on(group, [&] { model = reads ? read(config) : make_bare_model(config); });
  if (config.model.weights != "random") broadcast_weights(model, node);
  return model;
}

LoadedModel load_model_on_nodes(const RunConfig& config, const std::string& checkpoint,
                                const at::Device& device, dist::ProcessGroup& group,
                                dist::ProcessGroup& node, const ReadLoadedModel& read) {
  LoadedModel loaded;
  dist::agree_on(group, [&] {
    if (node.rank() == 0)
      loaded = read(config, checkpoint);
    else
      loaded.model = make_bare_model(config);
  });
  const std::string text = node.rank() == 0 ? describe(loaded).dump() : "";
  const Json structure = Json::parse(dist::broadcast_text(node, text));
  if (node.rank() != 0) build_as(structure, loaded);
  broadcast_weights(loaded.model, node);
  apply_precision(loaded.model, config, device);
  loaded.model->eval();
  return loaded;
}

void read_checkpoint_on_nodes(const std::filesystem::path& folder, models::TwoTower& model,
                              Optimizer& optimizer, TrainState& state, dist::ProcessGroup& group,
                              dist::ProcessGroup& node) {
  dist::agree_on(group, [&] {
    if (node.rank() == 0)
      read_checkpoint(folder, model, &optimizer, &state);
    else
      state = read_train_state(folder);
  });
  broadcast_weights(model, node);
  if (!optimizer.is_sharded()) {
    optimizer.broadcast_state(node);
  } else {
    dist::agree_on(group, [&] {
      const std::filesystem::path file = folder / "optimizer.safetensors";
      if (node.rank() != 0)
        optimizer.load_state(models::read_safetensors(file).tensors, file.string());
    });
  }
}

void broadcast_weights(models::TwoTower& model, dist::ProcessGroup& node,
                       std::int64_t piece_bytes) {
  const at::NoGradGuard no_grad;
  for (const auto& state : {models::base_state(model), models::adapter_state(model)})
    for (const auto& [name, tensor] : state) broadcast_values(tensor, node, piece_bytes);
}

}  // namespace triphase::trainer
