// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>
#include <optional>

#include "launch/command.hpp"
#include "launch/run_options.hpp"
#include "models/weights.hpp"
#include "trainer/build_model.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/evaluate_model.hpp"

namespace triphase::launch {
namespace {

namespace fs = std::filesystem;

/// What a path stands for: the best checkpoint of a run folder, the one that checkpoints/best
/// names, or itself.
fs::path weights_path(const fs::path& path) {
  return trainer::resolve_checkpoint(path).value_or(path);
}

ExitCode show_file(const fs::path& path) {
  const models::WeightsFile file = models::read_weights(weights_path(path));
  std::int64_t elements = 0;
  for (const auto& [name, tensor] : file.tensors) {
    std::string shape;
    for (const std::int64_t size : tensor.sizes())
      shape += (shape.empty() ? "" : ",") + std::to_string(size);
    std::printf("%-96s %-10s [%s]\n", name.c_str(), str(tensor.dtype()).c_str(), shape.c_str());
    elements += tensor.numel();
  }
  std::printf("%zu tensors, %lld elements\n", file.tensors.size(),
              static_cast<long long>(elements));
  for (const auto& [key, value] : file.metadata)
    std::printf("metadata %s = %s\n", key.c_str(), value.c_str());
  return ExitCode::kDone;
}

/// Which modules a run would adapt, freeze and train.
ExitCode show_plan(const trainer::RunConfig& config) {
  models::TwoTower model(models::model_preset(config.model.preset));
  model->set_logit_bias(trainer::has_logit_bias(config.loss));
  std::printf("%s\n", models::plan_adapters(model, config.adapt).table().c_str());
  return ExitCode::kDone;
}

Action prepare_show(const Arguments& arguments, dist::Runtime& runtime) {
  const bool first = runtime.rank() == 0;
  if (arguments.has("config")) {
    const trainer::RunConfig config = config_from(arguments, runtime);
    return [config, first] { return first ? show_plan(config) : ExitCode::kDone; };
  }
  TRIPHASE_CHECK(ConfigError, !arguments.positionals.empty(),
                 "nothing to show. Give a weights file or folder, or --config FILE for the adapter "
                 "plan of a run.");
  const std::string path = arguments.positionals[0];
  return [path, first] { return first ? show_file(path) : ExitCode::kDone; };
}

std::optional<at::ScalarType> dtype_of(const std::string& word) {
  if (word.empty()) return std::nullopt;
  const std::vector<std::pair<std::string, at::ScalarType>> known{{"float32", at::kFloat},
                                                                  {"bfloat16", at::kBFloat16},
                                                                  {"float16", at::kHalf},
                                                                  {"float64", at::kDouble}};
  for (const auto& [name, dtype] : known)
    if (name == word) return dtype;
  throw ConfigError(str("--dtype is '", word, "'. Use float32, bfloat16, float16 or float64."));
}

/// A file's tensors under the names that the new file gets; checked against a preset's when one is
/// given.
models::FittedWeights converted_tensors(const models::WeightsFile& file, const std::string& preset,
                                        const models::LoadOptions& options) {
  if (preset.empty())
    return {.tensors =
                models::without_prefixes(file.tensors, options.strip_prefixes, file.path.string()),
            .missing = {}};
  models::TwoTower model(models::model_preset(preset));
  return models::fit_weights(model, file.tensors, file.path.string(), options);
}

Action prepare_convert(const Arguments& arguments, dist::Runtime& runtime) {
  const fs::path in = arguments.positionals[0];
  const fs::path out = arguments.text("out");
  const std::string preset = arguments.text("preset");
  const auto dtype = dtype_of(arguments.text("dtype"));
  const models::LoadOptions options{.strip_prefixes = arguments.all("strip-prefix"),
                                    .allow_missing = arguments.all("allow-missing")};
  models::check_expressions(options.allow_missing);
  if (!preset.empty()) static_cast<void>(models::model_preset(preset));
  TRIPHASE_CHECK(ConfigError, options.allow_missing.empty() || !preset.empty(),
                 "--allow-missing needs --preset: without one, no name is expected.");
  const bool first = runtime.rank() == 0;
  return [=] {
    if (!first) return ExitCode::kDone;
    const models::WeightsFile file = models::read_weights(weights_path(in));
    const models::FittedWeights weights = converted_tensors(file, preset, options);
    std::map<std::string, std::string> metadata = file.metadata;
    metadata.emplace("format", "pt");
    if (!preset.empty()) metadata["preset"] = preset;
    models::write_safetensors(out, weights.tensors, metadata, dtype);
    for (const std::string& name : weights.missing)
      std::printf("missing, as allowed: %s\n", name.c_str());
    std::printf("%s: %zu tensors\n", out.c_str(), weights.tensors.size());
    return ExitCode::kDone;
  };
}

/// The adapted model of a checkpoint.
models::TwoTower load_checkpoint(const trainer::RunConfig& config, const std::string& checkpoint) {
  return trainer::load_model_for_evaluation(config, checkpoint).model;
}

ExitCode write_merged(models::TwoTower model, const fs::path& out) {
  models::merge_adapters(model);
  models::write_safetensors(out, models::base_state(model), {{"format", "pt"}});
  std::printf("%s\n", out.c_str());
  return ExitCode::kDone;
}

/// Base weights and a peft folder, without a run.
Action prepare_merge_files(const Arguments& arguments, bool first) {
  const std::string base = arguments.text("base");
  const fs::path adapter = arguments.text("adapter");
  const models::TwoTowerOptions options = models::model_preset(arguments.text("preset"));
  const fs::path out = arguments.text("out");
  return [=] {
    if (!first) return ExitCode::kDone;
    models::TwoTower model(options);
    models::load_state(model, models::read_weights(base));
    models::read_peft_folder(adapter, model);
    return write_merged(model, out);
  };
}

Action prepare_merge(const Arguments& arguments, dist::Runtime& runtime) {
  const bool first = runtime.rank() == 0;
  const bool is_run = arguments.has("config") && arguments.has("checkpoint");
  const bool is_files =
      arguments.has("base") && arguments.has("adapter") && arguments.has("preset");
  const bool mixes =
      (arguments.has("config") || arguments.has("checkpoint") || arguments.has("set")) &&
      (arguments.has("base") || arguments.has("adapter") || arguments.has("preset"));
  TRIPHASE_CHECK(ConfigError, (is_run || is_files) && !mixes,
                 "weights merge takes either --config and --checkpoint (a run), or --base, "
                 "--adapter and --preset "
                 "(files). Give all of one kind and none of the other.");
  if (is_files) return prepare_merge_files(arguments, first);
  const trainer::RunConfig config = config_from(arguments, runtime);
  const std::string checkpoint = arguments.text("checkpoint");
  const fs::path out = arguments.text("out");
  return [=] {
    return first ? write_merged(load_checkpoint(config, checkpoint), out) : ExitCode::kDone;
  };
}

/// The configuration under which a checkpoint's adapters were trained: it alone says what trained
/// beside them.
trainer::RunConfig adapted_run(const std::string& checkpoint) {
  const std::optional<fs::path> folder = trainer::resolve_checkpoint(checkpoint);
  TRIPHASE_CHECK_CODE(
      CheckpointError, kMissingInput, folder.has_value(), "'", checkpoint,
      "' is neither a checkpoint nor a run folder. Give one that triphase train wrote.");
  trainer::RunConfig trained = trainer::checkpoint_config(*folder);
  TRIPHASE_CHECK(ConfigError, trained.adapt.method == "peft", "'", folder->string(),
                 "' was trained with adapt.method '", trained.adapt.method,
                 "': it has no adapters to export. Use triphase weights merge for its weights.");
  return trained;
}

Action prepare_export(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::RunConfig config = config_from(arguments, runtime);
  const std::string checkpoint = arguments.text("checkpoint");
  const fs::path out = arguments.text("out");
  const bool first = runtime.rank() == 0;
  return [=] {
    if (!first) return ExitCode::kDone;
    const trainer::RunConfig trained = adapted_run(checkpoint);
    models::TwoTower model = load_checkpoint(config, checkpoint);
    models::write_peft_folder(out, model, trainer::peft_folder_plan(model, trained));
    std::printf("%s\n", out.c_str());
    return ExitCode::kDone;
  };
}

const OptionSpec kConfig{"config", "FILE", "the run file of the checkpoint", true, true};
const OptionSpec kSet{"set", "K=V", "one value", false, true};
const OptionSpec kCheckpoint{"checkpoint", "DIR", "checkpoint or run folder", true};

}  // namespace

Command weights_show_command() {
  return {
      .spec = {.name = "weights show",
               .summary = "lists the tensors of a file, checkpoint or run, or what a run would "
                          "adapt, freeze and train",
               .example = "  triphase weights show quickstart/runs/peft/checkpoints/best\n"
                          "  triphase weights show --config configs/merlin_peft.toml",
               .options = {{"config", "FILE", "a run file: print its adapter plan", false, true},
                           kSet},
               .positional_name = "[PATH]",
               .max_positionals = 1},
      .prepare = prepare_show};
}

Command weights_convert_command() {
  return {
      .spec = {.name = "weights convert",
               .summary = "copies tensors (.pt, safetensors, folder) to a new safetensors file, "
                          "checked and renamed when asked",
               .example = "  triphase weights convert merlin.pt --out merlin.safetensors --preset "
                          "merlin --strip-prefix model.",
               .options =
                   {{"out", "FILE", "the safetensors file", true},
                    {"preset", "NAME",
                     "the model whose names and shapes the file must have, no more and no less"},
                    {"strip-prefix", "TEXT", "taken off the front of tensor names", false, true},
                    {"dtype", "NAME",
                     "of fractions: float32, bfloat16, float16, float64; as they are when absent"},
                    {"allow-missing", "PATTERN",
                     "regular expression over names that the file may lack", false, true}},
               .positional_name = "IN",
               .min_positionals = 1,
               .max_positionals = 1},
      .prepare = prepare_convert};
}

Command weights_merge_command() {
  return {.spec = {.name = "weights merge",
                   .summary = "adds adapters to the base weights and writes them as safetensors",
                   .example = "  triphase weights merge --config configs/phantom_full.toml "
                              "--config configs/phantom_peft.toml "
                              "--checkpoint quickstart/runs/peft --out merged.safetensors\n"
                              "  triphase weights merge --base merlin.pt --adapter adapter/ "
                              "--preset merlin --out merged.safetensors",
                   .options = {{"config", "FILE", "the run file of the checkpoint", false, true},
                               {"checkpoint", "DIR", "checkpoint or run folder"},
                               {"base", "FILE", "instead of a run: the base weights"},
                               {"adapter", "DIR", "with --base: a peft folder"},
                               {"preset", "NAME", "with --base: the model"},
                               {"out", "FILE", "the safetensors file", true},
                               kSet}},
          .prepare = prepare_merge};
}

Command weights_export_command() {
  return {
      .spec = {.name = "weights export",
               .summary = "writes a checkpoint's adapters as a folder that Python's peft loads",
               .example = "  triphase weights export --config configs/phantom_full.toml --config "
                          "configs/phantom_peft.toml "
                          "--checkpoint quickstart/runs/peft --out adapter/",
               .options = {kConfig, kCheckpoint, {"out", "DIR", "the peft folder", true}, kSet}},
      .prepare = prepare_export};
}

}  // namespace triphase::launch
