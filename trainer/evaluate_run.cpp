// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/embeddings.hpp"
#include "data/library_versions.hpp"
#include "dist/node_group.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/loop/train_data.hpp"
#include "trainer/shared_weights.hpp"
#include "trainer/torch_setup.hpp"

#include <torch/headeronly/version.h>

#include <filesystem>

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

/// Opens and checks the cache as training does, but needs no split of it.
data::Cache open_cache(const RunConfig& config, const models::TwoTowerOptions& model) {
  RunConfig any = config;
  any.data.train_split = "all";
  any.data.validation_split.clear();
  any.loss.phenotype_weight = 0;
  return std::move(*open_train_data(any, model).cache);
}

/// What every result says of where it came from.
Json model_identity(const RunConfig& config, const LoadedModel& loaded) {
  Json json{{"preset", config.model.preset}, {"checkpoint", loaded.checkpoint}};
  json["adapt_method"] = loaded.adapt_method.empty() ? Json() : Json(loaded.adapt_method);
  json["step"] = loaded.step < 0 ? Json() : Json(loaded.step);
  return json;
}

/// A misspelt name would otherwise show only as a finding that the result lacks.
void warn_of_what_is_left_out(const Json& evaluation, const RunConfig& config, Logger& log) {
  const auto names = [&](const char* key) {
    std::string text;
    for (const Json& name : evaluation.at(key))
      text += (text.empty() ? "'" : ", '") + name.get<std::string>() + "'";
    return text;
  };
  if (const std::string labels = names("not_scored"); !labels.empty())
    log.warning("not scored, because '", config.evaluate.prompts,
                "' has no prompts for these label columns: ", labels);
  if (const std::string prompts = names("not_labelled"); !prompts.empty())
    log.warning("not scored, because the cache has no label column for these findings of '",
                config.evaluate.prompts, "': ", prompts);
}

struct Subject {
  LoadedModel loaded;
  std::unique_ptr<data::Cache> cache;
};

/// The same on every rank, or an error on every rank. Collective.
Subject open_subject(const RunConfig& config, const std::string& checkpoint,
                     const at::Device& device, dist::ProcessGroup& group) {
  Subject subject;
  dist::agree_on(group, [&] {
    subject.cache = std::make_unique<data::Cache>(
        open_cache(config, models::model_preset(config.model.preset)));
  });
  const auto node = dist::make_node_group(group);
  subject.loaded = load_model_on_nodes(config, checkpoint, device, group, *node);
  dist::agree_equal(group, subject.cache->data_hash(), "the cache's data hash");
  return subject;
}

}  // namespace

Json evaluate_run(const RunConfig& config, const std::string& checkpoint, const std::string& split,
                  const std::string& out, dist::Runtime& runtime, Logger& log, bool show_progress) {
  const TorchSetup torch = set_up_torch(config.precision, runtime, config.distributed.backend);
  warn_of_idle_gpus(torch, log);
  dist::ProcessGroup& group = runtime.world();
  Subject subject = open_subject(config, checkpoint, torch.device, group);
  log.info("evaluate split=", split, " checkpoint=", subject.loaded.checkpoint);
  Evaluation evaluation =
      evaluate_with_scores(subject.loaded.model, *subject.cache, config, split, group, show_progress);
  Json& json = evaluation.json;
  if (group.rank() == 0) warn_of_what_is_left_out(json, config, log);
  json["model"] = model_identity(config, subject.loaded);
  json["run"] = config.run.name;
  json["config_hash"] = hex64(xxh3(config.resolved_toml));
  json["versions"] = Json{{"libtorch", TORCH_VERSION}, {"hdf5", data::hdf5_version()}};
  json["num_ranks"] = group.num_ranks();
  const fs::path folder = fs::path(config.run_dir()) / "evaluation";
  const fs::path file = out.empty() ? folder / (split + ".json") : fs::path(out);
  dist::agree_on(group, [&] {
    if (group.rank() != 0) return;
    if (file.has_parent_path()) make_output_directory(file.parent_path());
    // The configuration beside the result: an evaluation may stand in a folder that holds no run.
    if (out.empty()) write_file_atomically(folder / (split + ".toml"), config.resolved_toml);
    write_json(fs::path(file).replace_extension(".scores.json"), evaluation.scores);
    write_json(file, json);
  });
  log.info("evaluation written file=", file.string());
  return json;
}

void embed_run(const RunConfig& config, const std::string& checkpoint, const std::string& split,
               const std::string& out, dist::Runtime& runtime, Logger& log, bool show_progress) {
  const TorchSetup torch = set_up_torch(config.precision, runtime, config.distributed.backend);
  warn_of_idle_gpus(torch, log);
  dist::ProcessGroup& group = runtime.world();
  Subject subject = open_subject(config, checkpoint, torch.device, group);
  std::vector<std::int64_t> indices;
  dist::agree_on(group, [&] { indices = subject.cache->select(split, config.data.sites); });
  const EmbeddingTable table =
      embed_samples(subject.loaded.model, *subject.cache, indices, config, group, show_progress);
  dist::agree_on(group, [&] {
    if (group.rank() != 0) return;
    data::EmbeddingFile file{.ids = {},
                             .image = table.image.contiguous(),
                             .text = table.text.contiguous(),
                             .image_features = table.features.contiguous(),
                             .attributes = {{"model", config.model.preset},
                                            {"checkpoint", subject.loaded.checkpoint},
                                            {"spec_hash", subject.cache->spec().hash()},
                                            {"data_hash", subject.cache->data_hash()},
                                            {"split", split}}};
    for (const std::int64_t index : table.indices)
      file.ids.push_back(subject.cache->entries().at(static_cast<std::size_t>(index)).id);
    data::write_embeddings(out, file);
  });
  log.info("embeddings written file=", out, " rows=", indices.size());
}

}  // namespace triphase::trainer
