// SPDX-License-Identifier: Apache-2.0
#include "models/weights.hpp"

#include "base/error.hpp"
#include "base/text_pattern.hpp"
#include "models/module_paths.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace triphase::models {
namespace {

using TensorMap = std::unordered_map<std::string, at::Tensor>;

bool is_factor_name(const std::string& name) {
  return name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight");
}

/// A buffer that older transformers releases saved and that holds no weights; and the sigmoid loss's
/// bias, which a run that has that loss starts at a value of its own.
bool is_tolerated(const std::string& name) {
  return name.ends_with("embeddings.position_ids") || name == "logit_bias";
}

/// Parameters and buffers, each module's own together, in the model's order.
NamedTensors state(TwoTower& model, bool factors) {
  NamedTensors result;
  const auto add = [&](const std::string& path, const auto& items) {
    for (const auto& item : items) {
      const std::string name = path.empty() ? item.key() : path + "." + item.key();
      if (is_factor_name(name) == factors) result.emplace_back(name, item.value().detach());
    }
  };
  for (const auto& item : model->named_modules("", /*include_self=*/true)) {
    add(item.key(), item.value()->named_parameters(/*recurse=*/false));
    add(item.key(), item.value()->named_buffers(/*recurse=*/false));
  }
  return result;
}

std::string stripped(std::string name, const std::vector<std::string>& prefixes) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string& prefix : prefixes)
      if (!prefix.empty() && name.starts_with(prefix)) {
        name.erase(0, prefix.size());
        again = true;
      }
  }
  return name;
}

/// "3 missing ('a', 'b', 'c')": every name, so that nothing is hidden. A file may have 32,768 of them,
/// of 4 KiB each; Merlin has 1,133.
std::string listed(const char* what, const std::vector<std::string>& names) {
  constexpr std::size_t kMostBytes = std::size_t{256} << 10;
  if (names.empty()) return "";
  std::string text = str("; ", names.size(), " ", what, " (");
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (text.size() + names[i].size() > kMostBytes)
      return text + str(", and ", names.size() - i, " more: see triphase weights show)");
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  }
  return text + ")";
}

std::vector<TextPattern> compiled(const std::vector<std::string>& expressions) {
  std::vector<TextPattern> result;
  for (const std::string& expression : expressions) {
    TRIPHASE_CHECK(ConfigError, !expression.empty(),
                   "an expression over tensor names is empty: it would fit all");
    result.emplace_back(expression, PatternOrigin::kGiven);
  }
  return result;
}

/// What names and shapes differ between the model and a file. Nothing is copied before all fit.
struct Differences {
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> misfits;  ///< "name [2,3], expected [3,2]"

  void refuse(const std::string& source) const {
    if (missing.empty() && unexpected.empty() && misfits.empty()) return;
    const bool is_wrapped =
        std::any_of(unexpected.begin(), unexpected.end(), [](const std::string& name) {
          return name.starts_with("model.") || name.starts_with("module.");
        });
    throw CheckpointError(
        str("'", source, "' does not fit this model", listed("missing", missing),
            listed("unexpected", unexpected), listed("of another shape or kind", misfits),
            ". Check model.preset and the file",
            is_wrapped ? ", or take the names' prefix off (--strip-prefix)." : "."));
  }
};

void compare(const std::string& name, const at::Tensor& wanted, const at::Tensor& found,
             Differences& differences) {
  if (wanted.sizes() != found.sizes())
    differences.misfits.push_back(
        triphase::str(name, " ", found.sizes(), ", expected ", wanted.sizes()));
  else if (wanted.is_floating_point() && !found.is_floating_point())
    differences.misfits.push_back(triphase::str(name, " ", c10::toString(found.scalar_type()),
                                                ", expected ",
                                                c10::toString(wanted.scalar_type())));
}

/// What a file has for each wanted name. Nothing is copied.
FittedWeights fitted(const NamedTensors& wanted, const TensorMap& found,
                     const std::vector<TextPattern>& optional, const std::string& source) {
  Differences differences;
  FittedWeights result;
  std::unordered_set<std::string> known;
  for (const auto& [name, tensor] : wanted) {
    known.insert(name);
    const auto item = found.find(name);
    if (item != found.end()) {
      compare(name, tensor, item->second, differences);
      result.tensors.emplace_back(name, item->second);
      continue;
    }
    const bool may_miss =
        std::any_of(optional.begin(), optional.end(),
                    [&name = name](const auto& e) { return e.is_found_in(name); });
    (may_miss ? result.missing : differences.missing).push_back(name);
  }
  for (const auto& [name, tensor] : found)
    if (!known.contains(name) && !is_tolerated(name)) differences.unexpected.push_back(name);
  std::sort(differences.unexpected.begin(), differences.unexpected.end());
  differences.refuse(source);
  return result;
}

/// @param file whose memory is given back, or nullptr
void copy_fitted(const NamedTensors& wanted, const FittedWeights& weights,
                 const WeightsFile* file) {
  const TensorMap targets(wanted.begin(), wanted.end());
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : weights.tensors) {
    at::Tensor target = targets.at(name);
    target.copy_(tensor);
    if (file != nullptr) file->release(tensor);
  }
}

/// Every tensor of the model, its adapters' factors last.
NamedTensors all_state(TwoTower& model) {
  NamedTensors tensors = state(model, /*factors=*/false);
  const NamedTensors factors = state(model, /*factors=*/true);
  tensors.insert(tensors.end(), factors.begin(), factors.end());
  return tensors;
}

/// What a file must hold: factors only when it has some.
NamedTensors wanted_of(TwoTower& model, const TensorMap& found) {
  const bool has_factors = std::any_of(found.begin(), found.end(),
                                       [](const auto& item) { return is_factor_name(item.first); });
  return has_factors ? all_state(model) : state(model, /*factors=*/false);
}

/// By name, prefixes removed.
TensorMap by_name(const NamedTensors& tensors, const std::vector<std::string>& prefixes,
                  const std::string& source) {
  const NamedTensors plain = without_prefixes(tensors, prefixes, source);
  return {plain.begin(), plain.end()};
}

}  // namespace

NamedTensors base_state(TwoTower& model) { return state(model, /*factors=*/false); }

NamedTensors adapter_state(TwoTower& model) {
  for (const ModuleEntry& module : list_modules(*model))
    TRIPHASE_CHECK(InternalError, !module.is_merged(), "the adapter of '", module.path,
                   "' is in its weight now and would be saved twice. Unmerge it first.");
  return state(model, /*factors=*/true);
}

void load_adapter_state(TwoTower& model, const NamedTensors& tensors, const std::string& source) {
  const NamedTensors wanted = adapter_state(model);
  copy_fitted(wanted, fitted(wanted, by_name(tensors, {}, source), {}, source), nullptr);
}

NamedTensors without_prefixes(const NamedTensors& tensors, const std::vector<std::string>& prefixes,
                              const std::string& source) {
  std::unordered_set<std::string> names;
  NamedTensors result;
  result.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    result.emplace_back(stripped(name, prefixes), tensor);
    TRIPHASE_CHECK(CheckpointError, names.insert(result.back().first).second, "'", source,
                   "' holds '", result.back().first, "' twice. Take one of the two out.");
  }
  return result;
}

void check_expressions(const std::vector<std::string>& expressions) {
  static_cast<void>(compiled(expressions));
}

FittedWeights fit_weights(TwoTower& model, const NamedTensors& tensors, const std::string& source,
                          const LoadOptions& options) {
  const std::vector<TextPattern> optional = compiled(options.allow_missing);
  const TensorMap found = by_name(tensors, options.strip_prefixes, source);
  return fitted(wanted_of(model, found), found, optional, source);
}

void load_state(TwoTower& model, const NamedTensors& tensors, const std::string& source,
                const LoadOptions& options) {
  copy_fitted(all_state(model), fit_weights(model, tensors, source, options), nullptr);
}

void load_state(TwoTower& model, const WeightsFile& file, const LoadOptions& options) {
  copy_fitted(all_state(model), fit_weights(model, file.tensors, file.path.string(), options),
              &file);
}

void load_weights(TwoTower& model, const std::string& weights, std::uint64_t seed,
                  const LoadOptions& options) {
  TRIPHASE_CHECK(
      ConfigError, !weights.empty(),
      "model.weights is empty. Give a file (.pt or .safetensors), a folder, or 'random'.");
  if (weights == "random") {
    initialise_weights(model, seed);
    return;
  }
  std::filesystem::path path(weights);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) path /= "model.safetensors";
  if (!std::filesystem::exists(path, ignored)) {
    // A bare word that is no file is rather a misspelt 'random' than a path.
    TRIPHASE_CHECK(ConfigError, path.has_extension() || path.has_parent_path(), "model.weights '",
                   weights, "' is neither 'random' nor a weights file nor a folder.");
    throw CheckpointError(str("model.weights '", path.string(), "' is not there. Check the path."),
                          ExitCode::kMissingInput);
  }
  const WeightsFile file = read_weights(path);
  // What the file may lack must be the same on every rank.
  if (!options.allow_missing.empty()) initialise_weights(model, seed);
  load_state(model, file, options);
}

}  // namespace triphase::models
