// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapter_plan.hpp"
#include "models/files/weights_file.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace triphase::models {

/// Every parameter and buffer, Merlin's names, adapters left out.
[[nodiscard]] NamedTensors base_state(TwoTower& model);
/// The adapters' factors only, as <module>.lora_A.weight and .lora_B.weight.
[[nodiscard]] NamedTensors adapter_state(TwoTower& model);

/// Copies adapters' factors into a model that has these adapters.
/// @throws CheckpointError when names or shapes differ, listing them
void load_adapter_state(TwoTower& model, const NamedTensors& tensors, const std::string& source);

struct LoadOptions {
  std::vector<std::string> strip_prefixes{
      "model.", "module."};                ///< off the front of a file's names, where they stand
  /// regular expressions searched in the model's names (TextPattern, with its limits)
  std::vector<std::string> allow_missing;
};

/// The same tensors under their names without the prefixes, however often these stand in front.
/// @throws CheckpointError when two names become one
[[nodiscard]] NamedTensors without_prefixes(const NamedTensors& tensors,
                                            const std::vector<std::string>& prefixes,
                                            const std::string& source);

/// @throws ConfigError naming the first that is empty, no regular expression or too long a one
void check_expressions(const std::vector<std::string>& expressions);

/// A file's tensors under the model's names and in its order, after its names and shapes were
/// compared with the model's: adapters' factors too when the file has any.
struct FittedWeights {
  NamedTensors tensors;
  std::vector<std::string>
      missing;  ///< what the model has, the file has not, and allow_missing lets pass
};
/// Names in the model and not in the file (or the other way round, or of another shape) are an
/// error that lists them all, but for those that fit an `allow_missing` expression. @throws
/// CheckpointError, ConfigError
[[nodiscard]] FittedWeights fit_weights(TwoTower& model, const NamedTensors& tensors,
                                        const std::string& source, const LoadOptions& options = {});

/// Copies tensors into the model by name, after fit_weights(); nothing is copied when anything does
/// not fit.
/// @throws CheckpointError, ConfigError
void load_state(TwoTower& model, const NamedTensors& tensors, const std::string& source,
                const LoadOptions& options = {});
/// Likewise of a file, whose memory is given back tensor by tensor: never much more than one copy
/// exists.
void load_state(TwoTower& model, const WeightsFile& file, const LoadOptions& options = {});

/// Weights from "random", a file that read_weights() reads, or a folder that holds
/// model.safetensors. What the file may lack (LoadOptions::allow_missing) is drawn from the seed,
/// as for "random".
/// @throws ConfigError, CheckpointError
void load_weights(TwoTower& model, const std::string& weights, std::uint64_t seed,
                  const LoadOptions& options = {});

/// Writes adapter_config.json and adapter_model.safetensors as Python peft reads them. What trains
/// besides the adapters (heads, norms) is saved as peft's modules_to_save; the log-scale and a bias, for
/// which peft has no place, as the metadata entries "logit_scale" and "logit_bias".
void write_peft_folder(const std::filesystem::path& folder, TwoTower& model,
                       const AdapterPlan& plan);
/// A folder with adapter_config.json, as Triphase and Python peft write it.
[[nodiscard]] bool is_peft_folder(const std::filesystem::path& path);
/// Adapts the model as the folder says and loads the factors, and the saved modules, log-scale and
/// bias if there are any. A model that has adapters already must have just these. @throws
/// CheckpointError
void read_peft_folder(const std::filesystem::path& folder, TwoTower& model);

}  // namespace triphase::models
