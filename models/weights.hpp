// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/file.hpp"
#include "models/adapter_plan.hpp"

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace triphase::models {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The tensors of a file, mapped: they share the mapping's memory and keep it alive; they must not
/// be changed in place.
struct WeightsFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;  ///< safetensors only
  std::filesystem::path path;
  std::shared_ptr<const MappedFile> mapping;

  /// Gives back the memory in which a tensor of this file lies, once it has been copied. It stays
  /// valid.
  void release(const at::Tensor& tensor) const;
};

/// Reads a weights file of any kind by what it begins with: a torch.save archive or safetensors; of
/// a folder, its model.safetensors, else its adapter_model.safetensors.
/// @throws CheckpointError (66) when it is not there, (65) when malformed or in the form of PyTorch
/// before 1.6
[[nodiscard]] WeightsFile read_weights(const std::filesystem::path& path);

/// The header is checked before anything is believed (sizes, overlaps, gaps, dtypes); a file that
/// Triphase wrote carries a hash, which is checked too. Source: the safetensors format description
/// (huggingface/safetensors).
/// @throws CheckpointError (66) when it is not there, (65) when malformed
[[nodiscard]] WeightsFile read_safetensors(const std::filesystem::path& path);

/// A torch.save archive of a dict of tensors (see read_torch_pickle() for what it may hold). Runs
/// nothing. The archive and every CRC-32 in it are checked, then each tensor's offset, sizes and
/// strides against its storage.
/// @throws CheckpointError (66) when it is not there, (65) when malformed or anything but tensors
[[nodiscard]] WeightsFile read_torch_file(const std::filesystem::path& path);

/// Writes safetensors atomically; tensors in the given order, fractions as `float_dtype` where it
/// is given. Adds a hash of the whole file to the metadata. Reads back in Python's safetensors.
/// @throws IoError; CheckpointError for a name twice, a tensor without elements, a number that the
/// dtype cannot hold
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       std::optional<at::ScalarType> float_dtype = std::nullopt);

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
/// besides the adapters (heads, norms) is saved as peft's modules_to_save; the log-scale, for which
/// peft has no place, as the metadata entry "logit_scale".
void write_peft_folder(const std::filesystem::path& folder, TwoTower& model,
                       const AdapterPlan& plan);
/// A folder with adapter_config.json, as Triphase and Python peft write it.
[[nodiscard]] bool is_peft_folder(const std::filesystem::path& path);
/// Adapts the model as the folder says and loads the factors, and the saved modules and log-scale
/// if there are any. A model that has adapters already must have just these. @throws
/// CheckpointError
void read_peft_folder(const std::filesystem::path& folder, TwoTower& model);

}  // namespace triphase::models
