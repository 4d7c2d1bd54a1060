// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/volume.hpp"

#include <string>

namespace triphase::data {

enum class Storage { kUint16, kFloat16, kFloat32 };

/// How a scan becomes a network input. Everything here is part of the cache's identity.
struct PreprocessOptions {
  std::string preset = "merlin";
  std::array<double, 3> spacing_mm{1.5, 1.5, 3.0};
  Shape3 volume_shape{224, 224, 160};             ///< X, Y, Z voxels
  std::array<double, 2> window_hu{-1000, 1000};   ///< mapped onto output_range, clipped
  std::array<double, 2> output_range{0, 1};
  Storage storage = Storage::kUint16;             ///< the cache's voxel type
};

/// "merlin" (1.5x1.5x3 mm, 224x224x160, -1000..1000 HU) or "phantom" (the phantom cohort's grid and window).
/// "ct_clip" is known but refused until its own resampling rule is built in.
/// @throws ConfigError for an unknown preset, naming the known ones
[[nodiscard]] PreprocessOptions preprocess_preset(const std::string& name);

/// Merlin's MONAI chain: orientation to RAS (flips and axis permutation only), resampling to spacing_mm
/// (trilinear, first-voxel-centre anchored, border clamped, float64 arithmetic, output size rounded half
/// to even), window to output_range with clipping, then pad (value 0, whatever the range) and centre crop to
/// volume_shape.
/// Source: MONAI 1.5 LoadImaged..CenterSpatialCropd as used by Merlin's monai_transforms.py.
/// @return volume_shape voxels in output_range, affine of the new grid
/// @throws ConfigError for options out of range, DataError when the affine is singular or the resampled
///         scan would be absurdly large. Purely local.
[[nodiscard]] Volume preprocess(const Volume& scan, const PreprocessOptions& options);

/// One line of canonical JSON with every parameter and the algorithm's version: two options give the same
/// text exactly when they give the same voxels.
[[nodiscard]] std::string preprocess_spec(const PreprocessOptions& options);

/// @throws ConfigError for a spacing, shape, window or range that makes no sense; a range must hold 0, the
///         value of padding
void check_preprocess_options(const PreprocessOptions& options);

[[nodiscard]] std::string storage_name(Storage storage);  ///< "uint16", "float16", "float32"
[[nodiscard]] Storage storage_from_name(const std::string& name);  ///< @throws ConfigError

}  // namespace triphase::data
