// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/volume.hpp"

#include <string>

namespace triphase::data {

enum class Storage { kUint16, kFloat16, kFloat32 };

/// By whose rule a scan is brought to spacing_mm.
enum class Resampling {
  kMonaiSpacing,      ///< MONAI's Spacing: first voxel's centre fixed, size rounded, then windowed
  kTorchInterpolate,  ///< CT-CLIP: clipped to the window, then half-voxel centres, size truncated
};

/// Along which axes the output runs.
enum class Orientation {
  kRas,     ///< the scan's axes permuted and flipped to right, anterior, superior
  kStored,  ///< as the file has them
};

/// How a scan becomes a network input. Everything here is part of the cache's identity.
struct PreprocessOptions {
  std::string preset = "merlin";
  Resampling resampling = Resampling::kMonaiSpacing;
  Orientation orientation = Orientation::kRas;
  std::array<double, 3> spacing_mm{1.5, 1.5, 3.0};
  Shape3 volume_shape{224, 224, 160};             ///< X, Y, Z voxels
  std::array<double, 2> window_hu{-1000, 1000};   ///< mapped onto output_range, clipped
  std::array<double, 2> output_range{0, 1};
  double padding = 0;                             ///< around smaller scans; lies in output_range
  Storage storage = Storage::kUint16;             ///< the cache's voxel type
};

/// "merlin" (1.5x1.5x3 mm, 224x224x160, -1000..1000 HU to 0..1), "ct_clip" (0.75x0.75x1.5 mm, 480x480x240,
/// -1000..1000 HU to -1..1, padded with -1, axes as stored) or "phantom" (the phantom cohort's grid and
/// window).
/// @throws ConfigError for an unknown preset, naming the known ones
[[nodiscard]] PreprocessOptions preprocess_preset(const std::string& name);

/// Orientation, resampling (trilinear, border clamped, float64 arithmetic), window to output_range with
/// clipping, pad with `padding` and centre crop to volume_shape, by the rules of `resampling`.
/// Source: MONAI 1.6 LoadImaged..CenterSpatialCrop as used by Merlin's monai_transforms.py; CT-CLIP's
/// data_inference_nii.py.
/// @return volume_shape voxels in output_range, affine of the new grid
/// @throws ConfigError for options out of range, DataError when the affine is singular or the resampled
///         scan would be absurdly large. Purely local.
[[nodiscard]] Volume preprocess(const Volume& scan, const PreprocessOptions& options);

/// One line of canonical JSON with every parameter and the algorithm's version: two options give the same
/// text exactly when they give the same voxels.
[[nodiscard]] std::string preprocess_spec(const PreprocessOptions& options);

/// The options that preprocess_spec() wrote, without the preset's name. Throws what nlohmann's JSON throws
/// where it is none, ConfigError for a name that is not known.
[[nodiscard]] PreprocessOptions parse_preprocess_spec(const std::string& text);

/// The window cuts the scan's voxels, before resampling; else what comes out of it.
[[nodiscard]] inline bool clips_first(const PreprocessOptions& options) {
  return options.resampling == Resampling::kTorchInterpolate;
}

/// @throws ConfigError for a spacing, shape, window or range that makes no sense; a range must hold the
///         value of padding
void check_preprocess_options(const PreprocessOptions& options);

[[nodiscard]] std::string resampling_name(Resampling);    ///< "monai_spacing", "torch_interpolate"
[[nodiscard]] Resampling resampling_from_name(const std::string& name);    ///< @throws ConfigError
[[nodiscard]] std::string orientation_name(Orientation);  ///< "ras", "stored"
[[nodiscard]] Orientation orientation_from_name(const std::string& name);  ///< @throws ConfigError
[[nodiscard]] std::string storage_name(Storage storage);  ///< "uint16", "float16", "float32"
[[nodiscard]] Storage storage_from_name(const std::string& name);  ///< @throws ConfigError

}  // namespace triphase::data
