// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/grid.hpp"
#include "data/preprocess.hpp"

#include <vector>

namespace triphase::data {

/// Which of the output's voxels along one axis come from the scan; the others are padding.
struct AxisFit {
  std::int64_t shift = 0;  ///< output index + shift = index on the resampled grid
  std::int64_t first = 0;  ///< first output index inside the resampled grid
  std::int64_t last = 0;   ///< one past the last
  [[nodiscard]] std::int64_t size() const { return last - first; }
};

/// Between which two of the scan's voxels along one axis a new one lies, and how far along.
struct Neighbours {
  std::int64_t low = 0;
  std::int64_t high = 0;
  double weight = 0;  ///< of `high`
};

/// Where every voxel of the output comes from.
struct SamplingPlan {
  GridView source;  ///< the scan's axes as the output has them
  ResamplePlan resampled;
  std::array<AxisFit, 3> fit;
  Affine affine{};          ///< of the output
  bool is_by_axis = false;  ///< each axis has its own table; else every voxel has a place of its own
};

/// @throws DataError when the affine is singular or the resampled scan would be absurdly large
[[nodiscard]] SamplingPlan plan_sampling(const Shape3& shape, const Affine& affine,
                                         const PreprocessOptions& options);

[[nodiscard]] Neighbours neighbours(double coordinate, std::int64_t length);

/// For each output index inside the scan, as indices of `plan.source`. Only where is_by_axis.
[[nodiscard]] std::vector<Neighbours> axis_table(const SamplingPlan& plan, std::size_t axis);

/// HU to output_range: MONAI's ScaleIntensityRange with clip, in float32 as there.
struct Window {
  float low_hu, width_hu, low, high, width;
  explicit Window(const PreprocessOptions& options);
  [[nodiscard]] float operator()(double hu) const {
    const float scaled = (static_cast<float>(hu) - low_hu) / width_hu * width + low;
    const float above = scaled < low ? low : scaled;
    return above > high ? high : above;
  }
};

}  // namespace triphase::data
