// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/affine.hpp"

namespace triphase::data {

/// A scan seen along other axes: which place in memory belongs to index (i,j,k), without a copy.
struct GridView {
  Shape3 shape{};
  std::array<std::int64_t, 3> strides{};  ///< may be negative
  std::int64_t start = 0;                 ///< place of index (0,0,0)
  std::array<std::size_t, 3> stored_axis{0, 1, 2};  ///< along which axis of the scan each one runs
  std::array<bool, 3> is_flipped{};                 ///< against it
  Affine affine{};
};

/// The scan with its axes permuted and flipped so that they run nearest to right, anterior, superior.
/// Source: nibabel io_orientation and MONAI Orientation("RAS"): polar factor of the unit columns, axes
/// assigned strongest first.
/// @throws DataError when the affine is singular or not finite
[[nodiscard]] GridView view_as_ras(const Shape3& shape, const Affine& affine);

/// The scan with its axes as they are.
/// @throws DataError when the affine is not finite
[[nodiscard]] GridView view_as_stored(const Shape3& shape, const Affine& affine);

/// Where resampling puts the new voxels.
struct ResamplePlan {
  Shape3 shape{};
  Affine affine{};         ///< of the new grid
  Affine index_map{};      ///< new voxel index -> old voxel index
  bool unchanged = false;  ///< new and old grid agree within MONAI's tolerance: values are kept
};

/// The grid of MONAI's Spacing(spacing_mm, diagonal=False): shear dropped, first-voxel-centre anchored, a
/// spacing within 1e-3 mm of the wanted one kept, sizes rounded half to even.
/// Source: monai/data/utils.py zoom_affine, compute_shape_offset; transforms/spatial spatial_resample.
/// @throws DataError when a size would exceed 2^20 voxels
[[nodiscard]] ResamplePlan plan_resampling(const Shape3& shape, const Affine& affine,
                                           const std::array<double, 3>& spacing_mm);

/// The grid of torch's interpolate(size = trunc(N * (s / t)), align_corners = False), along each axis by
/// itself: half-voxel centres, first and last border kept. Source: ATen/native/UpSample.h
/// (area_pixel_compute_source_index) and CT-CLIP's resize_array.
/// @throws DataError when a size would be 0 or exceed 2^20 voxels
[[nodiscard]] ResamplePlan plan_interpolation(const Shape3& shape, const Affine& affine,
                                              const std::array<double, 3>& spacing_mm);

}  // namespace triphase::data
