// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/scan_correction.hpp"
#include "data/volume.hpp"

#include <filesystem>
#include <vector>

namespace triphase::data {

/// What a file may ask for; checked before memory is taken.
struct NiftiLimits {
  std::int64_t max_voxels = std::int64_t{1} << 31;
};

/// Reads NIfTI-1 or -2, either byte order, integers of 8 to 64 bits, float32 and float64: `.nii`,
/// `.nii.gz`, or a pair `.hdr` and `.img` (either with `.gz`), of which `path` names one half. Free text
/// of the header (descrip, aux_file, intent_name, db_name, extensions) is not looked at: it may name a
/// patient.
///
/// Affine: sform, else qform, else the base affine, with MONAI's repair when the column norms disagree
/// with pixdim. Intensities: slope*x + intercept in float64, then float32 (slope 0 or not finite: none).
/// A fourth axis of length 1 is dropped. `correction` comes on top of all that.
/// Source: NIfTI-1 standard; nibabel 5 and MONAI 1.5 for the rules of precedence.
/// @throws DataError (66) when the file is not there; (65) when it is cut short, not NIfTI, of an
///         unsupported type, larger than the limits, half of a pair, or holds voxels that are not finite.
///         Purely local.
[[nodiscard]] Volume read_nifti(const std::filesystem::path& path, const NiftiLimits& limits = {},
                                const ScanCorrection& correction = {});

/// The files that make up a scan: the path itself, or for half of a pair the header and then the voxels.
/// @throws DataError when a half is missing
[[nodiscard]] std::vector<std::filesystem::path> nifti_files(const std::filesystem::path& path);

/// Writes int16 NIfTI-1 with slope 1 and the affine as sform (code 1); `.nii.gz` when the name says so.
/// Values are rounded and clamped to int16. Atomic. @throws IoError
void write_nifti(const std::filesystem::path& path, const Volume& volume);

}  // namespace triphase::data
