// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapter_plan.hpp"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace triphase::models {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// A safetensors file, mapped. Tensors share the mapping's memory and keep it alive; they must not be
/// changed in place. The header is checked before anything is believed (sizes, overlaps, gaps, dtypes).
/// Source: the safetensors format description (huggingface/safetensors).
struct Safetensors {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};
/// @throws CheckpointError (66) when it is not there, (65) when malformed
[[nodiscard]] Safetensors read_safetensors(const std::filesystem::path& path);
/// Writes atomically; tensors in the given order. Reads back in Python's safetensors. @throws IoError
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Every parameter and buffer, Merlin's names, adapters left out.
[[nodiscard]] NamedTensors base_state(TwoTower& model);
/// The adapters' factors only, as <module>.lora_A.weight and .lora_B.weight.
[[nodiscard]] NamedTensors adapter_state(TwoTower& model);

/// Copies adapters' factors into a model that has these adapters.
/// @throws CheckpointError when names or shapes differ, listing them
void load_adapter_state(TwoTower& model, const NamedTensors& tensors, const std::string& source);

/// Copies tensors into the model by name; adapters' factors too when the file has any. `strip_prefixes`: removed from the front of file names when
/// present ("model.", "module."). Names in the model and not in the file (or the other way round, or of
/// another shape) are an error that lists them, but for those that fit an `allow_missing` expression.
/// @throws CheckpointError
struct LoadOptions {
  std::vector<std::string> strip_prefixes{"model.", "module."};
  std::vector<std::string> allow_missing;  ///< regular expressions over names
};
void load_state(TwoTower& model, const NamedTensors& tensors, const std::string& source,
                const LoadOptions& options = {});

/// Weights from "random", a .safetensors file, or a folder that holds model.safetensors.
/// @throws ConfigError, CheckpointError
void load_weights(TwoTower& model, const std::string& weights, std::uint64_t seed,
                  const LoadOptions& options = {});

/// Writes adapter_config.json and adapter_model.safetensors as Python peft reads them. What trains besides
/// the adapters (heads, norms) is saved as peft's modules_to_save; the log-scale, for which peft has no
/// place, as the metadata entry "logit_scale".
void write_peft_folder(const std::filesystem::path& folder, TwoTower& model, const AdapterPlan& plan);
/// A folder with adapter_config.json, as Triphase and Python peft write it.
[[nodiscard]] bool is_peft_folder(const std::filesystem::path& path);
/// Adapts the model as the folder says and loads the factors, and the saved modules and log-scale if there
/// are any. A model that has adapters already must have just these. @throws CheckpointError
void read_peft_folder(const std::filesystem::path& folder, TwoTower& model);

}  // namespace triphase::models
