// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/file.hpp"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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

}  // namespace triphase::models
