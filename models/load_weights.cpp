// SPDX-License-Identifier: Apache-2.0
#include "models/weights.hpp"

#include "base/error.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <regex>
#include <unordered_map>

namespace triphase::models {
namespace {

using TensorMap = std::unordered_map<std::string, at::Tensor>;

bool is_factor_name(const std::string& name) {
  return name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight");
}

/// A buffer that older transformers releases saved and that holds no weights.
bool is_tolerated(const std::string& name) { return name.ends_with("embeddings.position_ids"); }

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

/// "3 missing ('a', 'b', 'c')"; at most eight names.
std::string listed(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string text = str("; ", names.size(), " ", what, " (");
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 8); ++i)
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  return text + (names.size() > 8 ? ", ...)" : ")");
}

std::vector<std::regex> compiled(const std::vector<std::string>& expressions) {
  std::vector<std::regex> result;
  for (const std::string& expression : expressions) {
    try {
      result.emplace_back(expression);
    } catch (const std::regex_error& error) {
      throw ConfigError(str("'", expression, "' is no regular expression: ", error.what()));
    }
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
    throw CheckpointError(
        str("'", source, "' does not fit this model", listed("missing", missing),
            listed("unexpected", unexpected), listed("of another shape or kind", misfits),
            ". Check model.preset and the file."));
  }
};

void compare(const std::string& name, const at::Tensor& wanted, const at::Tensor& found,
             Differences& differences) {
  if (wanted.sizes() != found.sizes())
    differences.misfits.push_back(triphase::str(name, " ", found.sizes(), ", expected ", wanted.sizes()));
  else if (wanted.is_floating_point() && !found.is_floating_point())
    differences.misfits.push_back(triphase::str(name, " ", c10::toString(found.scalar_type()), ", expected ",
                                      c10::toString(wanted.scalar_type())));
}

/// Copies by name after everything was compared.
void copy_named(const NamedTensors& wanted, TensorMap& found, const std::vector<std::regex>& optional,
                const std::string& source) {
  Differences differences;
  for (const auto& [name, tensor] : wanted) {
    const auto item = found.find(name);
    if (item != found.end()) {
      compare(name, tensor, item->second, differences);
      continue;
    }
    const bool may_miss = std::any_of(optional.begin(), optional.end(), [&name](const auto& e) {
      return std::regex_search(name, e);
    });
    if (!may_miss) differences.missing.push_back(name);
  }
  TensorMap known(wanted.begin(), wanted.end());
  for (const auto& [name, tensor] : found)
    if (!known.contains(name) && !is_tolerated(name)) differences.unexpected.push_back(name);
  std::sort(differences.unexpected.begin(), differences.unexpected.end());
  differences.refuse(source);
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : known)
    if (const auto item = found.find(name); item != found.end()) tensor.copy_(item->second);
}

/// By name, prefixes removed. @throws CheckpointError when two names become one
TensorMap by_name(const NamedTensors& tensors, const std::vector<std::string>& prefixes,
                  const std::string& source) {
  TensorMap found;
  for (const auto& [name, tensor] : tensors) {
    const std::string plain = stripped(name, prefixes);
    TRIPHASE_CHECK(CheckpointError, found.emplace(plain, tensor).second, "'", source, "' holds '",
                   plain, "' twice. Take one of the two out.");
  }
  return found;
}

}  // namespace

NamedTensors base_state(TwoTower& model) { return state(model, /*factors=*/false); }

NamedTensors adapter_state(TwoTower& model) { return state(model, /*factors=*/true); }

void load_adapter_state(TwoTower& model, const NamedTensors& tensors, const std::string& source) {
  TensorMap found = by_name(tensors, {}, source);
  copy_named(adapter_state(model), found, {}, source);
}

void load_state(TwoTower& model, const NamedTensors& tensors, const std::string& source,
                const LoadOptions& options) {
  const std::vector<std::regex> optional = compiled(options.allow_missing);
  TensorMap found = by_name(tensors, options.strip_prefixes, source);
  NamedTensors wanted = base_state(model);
  const bool has_factors = std::any_of(found.begin(), found.end(),
                                       [](const auto& item) { return is_factor_name(item.first); });
  if (has_factors) {
    const NamedTensors factors = adapter_state(model);
    wanted.insert(wanted.end(), factors.begin(), factors.end());
  }
  copy_named(wanted, found, optional, source);
}

void load_weights(TwoTower& model, const std::string& weights, std::uint64_t seed,
                  const LoadOptions& options) {
  TRIPHASE_CHECK(ConfigError, !weights.empty(),
                 "model.weights is empty. Give a .safetensors file, a folder, or 'random'.");
  if (weights == "random") {
    initialise_weights(model, seed);
    return;
  }
  std::filesystem::path path(weights);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) path /= "model.safetensors";
  // A bare word that is no file is rather a misspelt 'random' than a path.
  const bool names_a_file = path.extension() == ".safetensors" || path.has_parent_path();
  TRIPHASE_CHECK_CODE(CheckpointError, kMissingInput,
                      !names_a_file || std::filesystem::exists(path, ignored), "model.weights '",
                      path.string(), "' is not there. Check the path.");
  TRIPHASE_CHECK(ConfigError, path.extension() == ".safetensors", "model.weights '", weights,
                 "' is neither 'random' nor a folder nor a .safetensors file.",
                 path.extension() == ".pt" || path.extension() == ".bin"
                     ? " Save its tensors as safetensors once, in Python."
                     : "");
  load_state(model, read_safetensors(path).tensors, path.string(), options);
}

}  // namespace triphase::models
