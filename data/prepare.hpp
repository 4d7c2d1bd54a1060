// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/nifti.hpp"
#include "data/preprocess.hpp"

#include <cstddef>
#include <vector>

namespace triphase::data {

/// A scan made ready for a cache.
struct PreparedVolume {
  std::vector<std::byte> bytes;  ///< volume_shape voxels as encode_voxels() writes them
  Affine affine{};               ///< of the new grid
};

/// read_nifti(), preprocess() and encode_voxels(), to the same bits. Where the file's slices are the
/// output's planes (axial scans without shear: nearly all), in one sweep over the stored voxels, without
/// a float copy of the scan; several times as fast.
/// @throws ConfigError, DataError as they do. Purely local.
[[nodiscard]] PreparedVolume prepare_nifti(const std::filesystem::path& path,
                                           const PreprocessOptions& options,
                                           const NiftiLimits& limits = {},
                                           const ScanCorrection& correction = {});

/// prepare_nifti() of a file, or of a folder read_dicom(), preprocess() and encode_voxels().
[[nodiscard]] PreparedVolume prepare_scan(const std::filesystem::path& path,
                                          const PreprocessOptions& options,
                                          const NiftiLimits& limits = {},
                                          const ScanCorrection& correction = {});

}  // namespace triphase::data
