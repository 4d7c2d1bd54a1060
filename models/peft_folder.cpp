// SPDX-License-Identifier: Apache-2.0
#include "models/weights.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "models/module_paths.hpp"
#include "models/peft_config.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

namespace triphase::models {
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
const std::string kPrefix = "base_model.model.";
const std::string kLogScale = "logit_scale";
const std::string kLogitBias = "logit_bias";

/// One module's factors as a folder holds them.
struct Factors {
  at::Tensor a;
  at::Tensor b;
};

/// A folder, sorted by what its tensors are for.
struct Folder {
  std::string source;
  PeftConfig config;
  std::map<std::string, Factors> factors;  ///< by module path
  NamedTensors saved;                      ///< of modules_to_save, by Merlin's names
  std::optional<double> log_scale;
  std::optional<double> logit_bias;
};

/// The name without peft's prefix and without those of wrappers around the model.
std::string plain_name(std::string name) {
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  for (const char* wrapper : {"model.", "module."})
    if (name.starts_with(wrapper)) name.erase(0, std::string(wrapper).size());
  return name;
}

std::optional<double> parse_number(const WeightsFile& file, const std::string& name,
                                   const std::string& source) {
  const auto found = file.metadata.find(name);
  if (found == file.metadata.end()) return std::nullopt;
  double value = 0;
  const char* end = found->second.data() + found->second.size();
  const auto result = std::from_chars(found->second.data(), end, value);
  TRIPHASE_CHECK(CheckpointError,
                 result.ec == std::errc() && result.ptr == end && std::isfinite(value), "'", source,
                 "': the metadata entry '", name, "' is no number");
  return value;
}

Folder read_folder(const std::filesystem::path& path) {
  Folder folder;
  folder.source = (path / kWeightsName).string();
  folder.config = read_peft_config(path / kConfigName);
  const WeightsFile file = read_safetensors(path / kWeightsName);
  folder.log_scale = parse_number(file, kLogScale, folder.source);
  folder.logit_bias = parse_number(file, kLogitBias, folder.source);
  const std::string a_end = ".lora_A.weight";
  const std::string b_end = ".lora_B.weight";
  for (const auto& [name, tensor] : file.tensors) {
    const std::string plain = plain_name(name);
    if (plain.ends_with(a_end))
      folder.factors[plain.substr(0, plain.size() - a_end.size())].a = tensor;
    else if (plain.ends_with(b_end))
      folder.factors[plain.substr(0, plain.size() - b_end.size())].b = tensor;
    else
      folder.saved.emplace_back(plain, tensor);
  }
  return folder;
}

LowRankOptions low_rank_of(const PeftConfig& config, const std::string& path) {
  return {config.rank_of(path), config.alpha_of(path), config.dropout, config.rslora};
}

void check_factors(const Folder& folder, const ModuleEntry& module, const Factors& factors) {
  const LowRankOptions options = low_rank_of(folder.config, module.path);
  std::vector<std::int64_t> a = module.parameters().front().sizes().vec();
  std::vector<std::int64_t> b(a.size(), 1);
  b[0] = a[0];
  b[1] = a[0] = options.rank;
  TRIPHASE_CHECK(CheckpointError, factors.a.defined() && factors.b.defined(), "'", folder.source,
                 "' holds only one of the two factors of '", module.path, "'");
  TRIPHASE_CHECK(CheckpointError, factors.a.sizes() == a && factors.b.sizes() == b, "'",
                 folder.source, "': the factors of '", module.path, "' are ", factors.a.sizes(),
                 " and ", factors.b.sizes(), ", expected ", at::IntArrayRef(a), " and ",
                 at::IntArrayRef(b), ". Check r and rank_pattern, and model.preset.");
  TRIPHASE_CHECK(CheckpointError, factors.a.is_floating_point() && factors.b.is_floating_point(),
                 "'", folder.source, "': the factors of '", module.path, "' are no fractions");
  if (!module.is_adapted()) return;
  const LowRankOptions present = module.low_rank();
  TRIPHASE_CHECK(CheckpointError,
                 present.rank == options.rank &&
                     std::abs(present.scale() - options.scale()) <= 1e-9 * options.scale(),
                 "'", folder.source, "': '", module.path, "' has rank ", options.rank,
                 " and scale ", options.scale(), ", the model's own adapter has rank ",
                 present.rank, " and scale ", present.scale());
}

/// Everything that can be wrong is found here, before the model is touched.
void check_folder(const Folder& folder, const std::vector<ModuleEntry>& modules) {
  std::set<std::string> known;
  const bool lists = !folder.config.target_expression;
  for (const ModuleEntry& module : modules) {
    known.insert(module.path);
    const auto found = folder.factors.find(module.path);
    if (found != folder.factors.end()) {
      TRIPHASE_CHECK(CheckpointError, module.can_adapt(), "'", folder.source, "': '", module.path,
                     "' is no convolution and no linear layer");
      check_factors(folder, module, found->second);
      continue;
    }
    TRIPHASE_CHECK(CheckpointError, !module.is_adapted(), "'", folder.source,
                   "' has no factors for '", module.path, "', which the model adapts");
    TRIPHASE_CHECK(
        CheckpointError, !(lists && module.can_adapt() && folder.config.targets(module.path)), "'",
        folder.source, "' has no factors for '", module.path, "', which adapter_config.json names");
  }
  for (const auto& [path, factors] : folder.factors)
    TRIPHASE_CHECK(CheckpointError, known.contains(path), "'", folder.source, "' has factors for '",
                   path, "', which this model has not. Check model.preset.");
  TRIPHASE_CHECK(CheckpointError, !folder.factors.empty(), "'", folder.source,
                 "' holds no adapter");
}

/// The model's own tensors that the folder's saved modules replace, in the folder's order.
NamedTensors saved_targets(const Folder& folder, TwoTower& model) {
  const NamedTensors state = base_state(model);
  NamedTensors targets;
  for (const auto& [name, tensor] : folder.saved) {
    const std::string path = name.substr(0, name.rfind('.'));
    const auto& listed = folder.config.modules_to_save;
    const bool is_listed = std::any_of(listed.begin(), listed.end(), [&path = path](const auto& m) {
      return path == m || path.ends_with("." + m);
    });
    const auto found = std::find_if(state.begin(), state.end(), [&name = name](const auto& item) {
      return item.first == name;
    });
    TRIPHASE_CHECK(CheckpointError, is_listed && found != state.end(), "'", folder.source,
                   "' holds '", name, "', which is no adapter and not of modules_to_save");
    TRIPHASE_CHECK(CheckpointError, found->second.sizes() == tensor.sizes(), "'", folder.source,
                   "': '", name, "' is ", tensor.sizes(), ", expected ", found->second.sizes());
    targets.push_back(*found);
  }
  return targets;
}

/// Alpha that gives the same scale without rsLoRA.
double plain_alpha(const LowRankOptions& options) {
  return options.rslora ? options.scale() * static_cast<double>(options.rank) : options.alpha;
}

/// One file-wide setting where all agree, patterns by path for the others.
PeftConfig describe(const std::vector<ModuleEntry>& adapted) {
  PeftConfig config;
  const LowRankOptions first = adapted.front().low_rank();
  config.rslora = std::all_of(adapted.begin(), adapted.end(),
                              [](const ModuleEntry& m) { return m.low_rank().rslora; });
  const auto alpha = [&](const LowRankOptions& o) {
    return config.rslora ? o.alpha : plain_alpha(o);
  };
  config.rank = first.rank;
  config.alpha = alpha(first);
  for (const ModuleEntry& module : adapted) {
    const LowRankOptions options = module.low_rank();
    config.dropout = std::max(config.dropout, options.dropout);  // peft has one for all
    config.target_modules.push_back(module.path);
    if (options.rank != config.rank) config.rank_pattern.emplace_back(module.path, options.rank);
    if (alpha(options) != config.alpha)
      config.alpha_pattern.emplace_back(module.path, alpha(options));
  }
  return config;
}

std::string shortest_decimal(double value) {
  char text[32];
  const auto result = std::to_chars(text, text + sizeof text, value);
  return {text, result.ptr};
}

}  // namespace

void write_peft_folder(const std::filesystem::path& folder, TwoTower& model,
                       const AdapterPlan& plan) {
  std::vector<ModuleEntry> adapted;
  NamedTensors tensors;
  for (const ModuleEntry& module : list_modules(*model)) {
    if (!module.is_adapted()) continue;
    adapted.push_back(module);
    tensors.emplace_back(kPrefix + module.path + ".lora_A.weight", module.lora_a());
    tensors.emplace_back(kPrefix + module.path + ".lora_B.weight", module.lora_b());
  }
  TRIPHASE_CHECK(ConfigError, !adapted.empty(), "the model has no adapters to write to '",
                 folder.string(), "'. Save its weights instead.");
  PeftConfig config = describe(adapted);
  const NamedTensors state = base_state(model);
  for (const AdapterPlanRow& row : plan.rows) {
    if (row.part != "trained" || row.module.empty()) continue;
    config.modules_to_save.push_back(row.module);
    for (const auto& [name, tensor] : state)
      if (name.substr(0, name.rfind('.')) == row.module)
        tensors.emplace_back(kPrefix + name, tensor);
  }
  make_output_directory(folder);
  std::map<std::string, std::string> metadata{
      {"format", "pt"}, {kLogScale, shortest_decimal(model->log_scale().item<double>())}};
  if (model->logit_bias().defined())
    metadata[kLogitBias] = shortest_decimal(model->logit_bias().item<double>());
  write_safetensors(folder / kWeightsName, tensors, metadata);
  write_json(folder / kConfigName, peft_config_json(config));
}

bool is_peft_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path / kConfigName, ignored);
}

void read_peft_folder(const std::filesystem::path& path, TwoTower& model) {
  const Folder folder = read_folder(path);
  const std::vector<ModuleEntry> modules = list_modules(*model);
  check_folder(folder, modules);
  NamedTensors targets = saved_targets(folder, model);
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].second.copy_(folder.saved[i].second);
  for (const ModuleEntry& module : modules) {
    const auto found = folder.factors.find(module.path);
    if (found == folder.factors.end()) continue;
    if (!module.is_adapted()) module.adapt(low_rank_of(folder.config, module.path), /*seed=*/0);
    module.lora_a().copy_(found->second.a);
    module.lora_b().copy_(found->second.b);
  }
  if (folder.log_scale) model->log_scale().detach().fill_(*folder.log_scale);
  if (!folder.logit_bias) return;
  model->set_logit_bias(true);
  model->logit_bias().detach().fill_(*folder.logit_bias);
}

}  // namespace triphase::models
