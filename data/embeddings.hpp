// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace triphase::data {

/// What `triphase embed` hands on: one row for each sample.
struct EmbeddingFile {
  std::vector<std::string> ids;                                 ///< [N]
  at::Tensor image;                                             ///< [N,E] float32 unit rows
  at::Tensor text;                                              ///< [N,E] float32 unit rows
  at::Tensor image_features;                                    ///< [N,F] float32, pooled
  std::vector<std::pair<std::string, std::string>> attributes;  ///< of the file's root, as text
};

/// Writes `/id`, `/image`, `/text`, `/image_features` and the attributes as HDF5 under a temporary
/// name, fsyncs and renames. Reads with h5py and h5dump as it stands.
/// @throws InternalError when the rows do not fit together; IoError
void write_embeddings(const std::filesystem::path& path, const EmbeddingFile& embeddings);

}  // namespace triphase::data
