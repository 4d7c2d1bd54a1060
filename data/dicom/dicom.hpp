// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/nifti.hpp"

namespace triphase::data {

/// Reads a folder that holds one CT series, one file a slice; other files (no "DICM" at byte 128, no name in .dcm)
/// are passed over. Slices are put in order by position, each rescaled by its own slope and intercept in float64, then
/// float32. Padding values are kept: they lie below every window.
/// Read: 8 or 16 bits a voxel, signed or not; uncompressed (either byte order), RLE, JPEG lossless, JPEG-LS.
/// What is refused, and why: docs/dicom.md.
/// @param limits max_voxels, of the whole series, before memory is taken
/// @throws DataError (66) when there is no such folder; (65) naming the file, never what a patient's tags hold.
///         Purely local.
[[nodiscard]] Volume read_dicom(const std::filesystem::path& folder, const NiftiLimits& limits = {},
                                const ScanCorrection& correction = {});

/// Every regular file of a series' folder, sorted. @throws DataError (66) when there is no such folder
[[nodiscard]] std::vector<std::filesystem::path> files_of_series(const std::filesystem::path& folder);

/// "DCMTK 3.6.7", or that this build has none.
[[nodiscard]] std::string dicom_support();

}  // namespace triphase::data
