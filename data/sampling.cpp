// SPDX-License-Identifier: Apache-2.0
#include "data/sampling.hpp"

#include <algorithm>
#include <cmath>

namespace triphase::data {
namespace {

/// SpatialPad and CenterSpatialCrop in one. Source: monai/transforms/croppad/array.py.
AxisFit fit_as_monai(std::int64_t size, std::int64_t wanted) {
  if (size >= wanted) return {size / 2 - wanted / 2, 0, wanted};
  const std::int64_t before = (wanted - size) / 2;
  return {-before, before, before + size};
}

/// Differs where an odd size is cropped to an even one. Source: CT-CLIP's nii_img_to_tensor.
AxisFit fit_as_ct_clip(std::int64_t size, std::int64_t wanted) {
  if (size >= wanted) return {(size - wanted) / 2, 0, wanted};
  return fit_as_monai(size, wanted);
}

/// Off-diagonal terms that move no voxel by a billionth of a voxel are rounding noise.
bool is_only_zoomed(const ResamplePlan& plan) {
  if (plan.unchanged) return true;
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      if (i != j && !(std::abs(plan.index_map[i][j]) * static_cast<double>(plan.shape[j]) < 1e-9))
        return false;
  return true;
}

}  // namespace

SamplingPlan plan_sampling(const Shape3& shape, const Affine& affine,
                           const PreprocessOptions& options) {
  SamplingPlan plan;
  plan.source = options.orientation == Orientation::kRas ? view_as_ras(shape, affine)
                                                         : view_as_stored(shape, affine);
  const bool is_monai = options.resampling == Resampling::kMonaiSpacing;
  plan.resampled = (is_monai ? plan_resampling : plan_interpolation)(
      plan.source.shape, plan.source.affine, options.spacing_mm);
  Vector3 corner{};
  for (std::size_t i = 0; i < 3; ++i) {
    plan.fit[i] = (is_monai ? fit_as_monai : fit_as_ct_clip)(plan.resampled.shape[i],
                                                             options.volume_shape[i]);
    corner[i] = static_cast<double>(plan.fit[i].shift);
  }
  plan.affine =
      affine_from(linear_part(plan.resampled.affine), apply(plan.resampled.affine, corner));
  plan.is_by_axis = is_only_zoomed(plan.resampled);
  return plan;
}

Neighbours neighbours(double coordinate, std::int64_t length) {
  const double last = static_cast<double>(length - 1);
  const double clamped = std::min(std::max(coordinate, 0.0), last);
  const double floor = std::floor(clamped);
  const auto low = static_cast<std::int64_t>(floor);
  return {low, std::min(low + 1, length - 1), clamped - floor};
}

std::vector<Neighbours> axis_table(const SamplingPlan& plan, std::size_t axis) {
  const AxisFit& fit = plan.fit[axis];
  const auto& map_row = plan.resampled.index_map[axis];
  std::vector<Neighbours> table;
  for (std::int64_t o = fit.first; o < fit.last; ++o) {
    const double index = static_cast<double>(o + fit.shift);
    const double coordinate = plan.resampled.unchanged ? index : map_row[axis] * index + map_row[3];
    table.push_back(neighbours(coordinate, plan.source.shape[axis]));
  }
  return table;
}

Window::Window(const PreprocessOptions& options)
    : low_hu(static_cast<float>(options.window_hu[0])),
      width_hu(static_cast<float>(options.window_hu[1] - options.window_hu[0])),
      low(static_cast<float>(options.output_range[0])),
      high(static_cast<float>(options.output_range[1])),
      width(static_cast<float>(options.output_range[1] - options.output_range[0])) {}

}  // namespace triphase::data
