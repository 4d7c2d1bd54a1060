// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"
#include "launch/run_options.hpp"
#include "models/weights.hpp"
#include "trainer/build_model.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/evaluate_model.hpp"

#include <cstdio>
#include <filesystem>
#include <optional>

namespace triphase::launch {
namespace {

namespace fs = std::filesystem;

/// The safetensors file that a path stands for: itself, or the one in a run's best checkpoint, in
/// a checkpoint (checkpoints/best names one), or in a peft folder.
fs::path weights_file(const fs::path& path) {
  TRIPHASE_CHECK(ConfigError, path.extension() != ".pt" && path.extension() != ".pth",
                 "'", path.string(), "' is a torch.save file, which this version does not read. Convert it "
                 "to safetensors once, in Python: safetensors.torch.save_file(dict(state_dict), 'model.safetensors').");
  if (const auto checkpoint = trainer::resolve_checkpoint(path))
    return *checkpoint / "model.safetensors";
  if (!fs::is_directory(path)) return path;
  for (const char* name : {"model.safetensors", "adapter_model.safetensors"})
    if (fs::exists(path / name)) return path / name;
  throw CheckpointError(str("folder '", path.string(), "' holds neither model.safetensors nor "
                            "adapter_model.safetensors. Give a run folder, a checkpoint folder, a peft folder or a file."),
                        ExitCode::kMissingInput);
}

ExitCode show_file(const fs::path& path) {
  const models::Safetensors file = models::read_safetensors(weights_file(path));
  std::int64_t elements = 0;
  for (const auto& [name, tensor] : file.tensors) {
    std::string shape;
    for (const std::int64_t size : tensor.sizes()) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    std::printf("%-96s %-10s [%s]\n", name.c_str(), str(tensor.dtype()).c_str(), shape.c_str());
    elements += tensor.numel();
  }
  std::printf("%zu tensors, %lld elements\n", file.tensors.size(), static_cast<long long>(elements));
  for (const auto& [key, value] : file.metadata) std::printf("metadata %s = %s\n", key.c_str(), value.c_str());
  return ExitCode::kDone;
}

/// Which modules a run would adapt, freeze and train.
ExitCode show_plan(const trainer::RunConfig& config) {
  models::TwoTower model(models::model_preset(config.model.preset));
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
                 "nothing to show. Give a weights file or folder, or --config FILE for the adapter plan of a run.");
  const std::string path = arguments.positionals[0];
  return [path, first] { return first ? show_file(path) : ExitCode::kDone; };
}

Action prepare_convert(const Arguments& arguments, dist::Runtime& runtime) {
  const fs::path in = arguments.positionals[0];
  const fs::path out = arguments.text("out");
  const std::string prefix = arguments.text("strip-prefix");
  const bool first = runtime.rank() == 0;
  return [=] {
    if (!first) return ExitCode::kDone;
    models::Safetensors file = models::read_safetensors(weights_file(in));
    for (auto& [name, tensor] : file.tensors)
      if (!prefix.empty() && name.starts_with(prefix)) name.erase(0, prefix.size());
    models::write_safetensors(out, file.tensors, file.metadata);
    std::printf("%s: %zu tensors\n", out.c_str(), file.tensors.size());
    return ExitCode::kDone;
  };
}

/// The adapted model of a checkpoint.
models::TwoTower load_checkpoint(const trainer::RunConfig& config, const std::string& checkpoint) {
  return trainer::load_model_for_evaluation(config, checkpoint).model;
}

Action prepare_merge(const Arguments& arguments, dist::Runtime& runtime) {
  const trainer::RunConfig config = config_from(arguments, runtime);
  const std::string checkpoint = arguments.text("checkpoint");
  const fs::path out = arguments.text("out");
  const bool first = runtime.rank() == 0;
  return [=] {
    if (!first) return ExitCode::kDone;
    models::TwoTower model = load_checkpoint(config, checkpoint);
    models::merge_adapters(model);
    models::write_safetensors(out, models::base_state(model), {{"format", "pt"}});
    std::printf("%s\n", out.c_str());
    return ExitCode::kDone;
  };
}

/// The configuration under which a checkpoint's adapters were trained: it alone says what trained beside them.
trainer::RunConfig adapted_run(const std::string& checkpoint) {
  const std::optional<fs::path> folder = trainer::resolve_checkpoint(checkpoint);
  TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput, folder.has_value(), "'", checkpoint,
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
  return {.spec = {.name = "weights show",
                   .summary = "lists the tensors of a file, checkpoint or run, or what a run would adapt, freeze and train",
                   .example = "  triphase weights show quickstart/runs/peft/checkpoints/best\n"
                              "  triphase weights show --config configs/merlin_peft.toml",
                   .options = {{"config", "FILE", "a run file: print its adapter plan", false, true}, kSet},
                   .positional_name = "[PATH]",
                   .max_positionals = 1},
          .prepare = prepare_show};
}

Command weights_convert_command() {
  return {.spec = {.name = "weights convert",
                   .summary = "copies tensors to a new safetensors file, a name prefix taken off when asked",
                   .example = "  triphase weights convert model.safetensors --out merlin.safetensors --strip-prefix model.",
                   .options = {{"out", "FILE", "the safetensors file", true},
                               {"strip-prefix", "TEXT", "taken off the front of tensor names"}},
                   .positional_name = "IN",
                   .min_positionals = 1,
                   .max_positionals = 1},
          .prepare = prepare_convert};
}

Command weights_merge_command() {
  return {.spec = {.name = "weights merge",
                   .summary = "adds a checkpoint's adapters to the base weights and writes them as safetensors",
                   .example = "  triphase weights merge --config configs/phantom_full.toml --config configs/phantom_peft.toml "
                              "--checkpoint quickstart/runs/peft --out merged.safetensors",
                   .options = {kConfig, kCheckpoint, {"out", "FILE", "the safetensors file", true}, kSet}},
          .prepare = prepare_merge};
}

Command weights_export_command() {
  return {.spec = {.name = "weights export",
                   .summary = "writes a checkpoint's adapters as a folder that Python's peft loads",
                   .example = "  triphase weights export --config configs/phantom_full.toml --config configs/phantom_peft.toml "
                              "--checkpoint quickstart/runs/peft --out adapter/",
                   .options = {kConfig, kCheckpoint, {"out", "DIR", "the peft folder", true}, kSet}},
          .prepare = prepare_export};
}

}  // namespace triphase::launch
