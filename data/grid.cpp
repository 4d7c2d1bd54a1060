// SPDX-License-Identifier: Apache-2.0
#include "data/grid.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.hpp"

namespace triphase::data {
namespace {

/// MONAI's AFFINE_TOL.
constexpr double kAffineTolerance = 1e-3;
constexpr double kLargestSize = 0x1p20;

struct AxisRole {
  std::size_t out_axis = 0;
  bool flipped = false;
};

std::array<AxisRole, 3> io_orientation(const Affine& affine) {
  Matrix3 unit = linear_part(affine);
  const Vector3 norms = column_norms(unit);
  for (auto& row : unit)
    for (std::size_t j = 0; j < 3; ++j) row[j] /= norms[j] == 0 ? 1 : norms[j];
  const std::optional<Matrix3> polar = polar_rotation(unit);
  TRIPHASE_CHECK(DataError, polar.has_value(),
                 "the scan's affine is singular: its axes do not span space. Repair its header.");
  Matrix3 rotation = *polar;

  std::array<double, 3> strength{};
  for (std::size_t j = 0; j < 3; ++j)
    for (std::size_t i = 0; i < 3; ++i)
      strength[j] = std::max(strength[j], rotation[i][j] * rotation[i][j]);
  std::array<std::size_t, 3> order{0, 1, 2};
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return strength[a] > strength[b]; });

  std::array<AxisRole, 3> roles{};
  std::array<bool, 3> used{};
  for (const std::size_t in_axis : order) {
    std::size_t best = 3;
    for (std::size_t i = 0; i < 3; ++i)
      if (!used[i] &&
          (best == 3 || std::abs(rotation[i][in_axis]) > std::abs(rotation[best][in_axis])))
        best = i;
    used[best] = true;
    roles[in_axis] = {best, rotation[best][in_axis] < 0};
  }
  return roles;
}

/// Like numpy.allclose with MONAI's absolute tolerance.
bool all_close(const Affine& a, const Affine& b) {
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j)
      if (!(std::abs(a[i][j] - b[i][j]) <= kAffineTolerance + 1e-5 * std::abs(b[i][j])))
        return false;
  return true;
}

/// Rotation kept, shear dropped, columns as long as asked; no translation.
Affine zoomed(const Affine& affine, const std::array<double, 3>& spacing_mm) {
  const Matrix3 linear = linear_part(affine);
  const std::optional<Matrix3> upper = upper_cholesky_of_gram(linear);
  const std::optional<Matrix3> upper_inverse = upper ? inverse(*upper) : std::nullopt;
  TRIPHASE_CHECK(DataError, upper_inverse.has_value(),
                 "the scan's affine is singular: its axes do not span space. Repair its header.");
  Matrix3 rotation = multiply(linear, *upper_inverse);
  for (auto& row : rotation)
    for (std::size_t j = 0; j < 3; ++j) row[j] *= spacing_mm[j];
  return affine_from(rotation, {0, 0, 0});
}

using Corners = std::array<Vector3, 8>;

Corners corners_of(const Shape3& shape) {
  Corners corners{};
  for (std::size_t c = 0; c < corners.size(); ++c)
    for (std::size_t axis = 0; axis < 3; ++axis)
      corners[c][axis] = (c >> (2 - axis)) & 1U ? static_cast<double>(shape[axis]) - 1 : 0.0;
  return corners;
}

/// The translation that puts the new grid's first voxel on the old corner that is smallest along
/// all new axes; where shear leaves no such corner, the centres of both grids are laid on each
/// other.
Vector3 anchor(const Shape3& shape, const Affine& old_affine, const Corners& mapped,
               const Affine& new_affine, const Shape3& new_shape) {
  Vector3 low = mapped[0];
  for (const Vector3& corner : mapped)
    for (std::size_t i = 0; i < 3; ++i) low[i] = std::min(low[i], corner[i]);
  const Corners corners = corners_of(shape);
  for (std::size_t c = 0; c < corners.size(); ++c) {
    bool smallest = true;
    for (std::size_t i = 0; i < 3; ++i) smallest = smallest && mapped[c][i] - low[i] <= 1e-8;
    if (smallest) return apply(old_affine, corners[c]);
  }
  Vector3 half_old{};
  Vector3 half_new{};
  for (std::size_t i = 0; i < 3; ++i) {
    half_old[i] = static_cast<double>(shape[i]) / 2;
    half_new[i] = static_cast<double>(new_shape[i]) / 2;
  }
  const Vector3 centre = apply(old_affine, half_old);
  const Vector3 back = apply(new_affine, half_new);
  return {centre[0] - back[0], centre[1] - back[1], centre[2] - back[2]};
}

std::int64_t checked_size(double size, double wanted_mm, std::int64_t length, double current_mm) {
  TRIPHASE_CHECK(DataError, size >= 1 && size <= kLargestSize, "resampling to ", wanted_mm,
                 " mm would make an axis of ", size, " voxels (the scan has ", length, " of ",
                 current_mm, " mm). Check the spacing in its header.");
  return static_cast<std::int64_t>(size);
}

}  // namespace

GridView view_as_ras(const Shape3& shape, const Affine& affine) {
  TRIPHASE_CHECK(DataError, is_finite(affine),
                 "the scan's affine is not finite. Repair its header.");
  const std::array<AxisRole, 3> roles = io_orientation(affine);
  const std::array<std::int64_t, 3> strides{shape[1] * shape[2], shape[2], 1};
  GridView view;
  Affine to_old{};  // RAS index -> index as stored
  to_old[3][3] = 1;
  for (std::size_t in_axis = 0; in_axis < 3; ++in_axis) {
    const auto [out_axis, flipped] = roles[in_axis];
    const std::int64_t last = shape[in_axis] - 1;
    view.shape[out_axis] = shape[in_axis];
    view.strides[out_axis] = flipped ? -strides[in_axis] : strides[in_axis];
    view.stored_axis[out_axis] = in_axis;
    view.is_flipped[out_axis] = flipped;
    if (flipped) view.start += last * strides[in_axis];
    to_old[in_axis][out_axis] = flipped ? -1 : 1;
    to_old[in_axis][3] = flipped ? static_cast<double>(last) : 0;
  }
  view.affine = multiply(affine, to_old);
  return view;
}

GridView view_as_stored(const Shape3& shape, const Affine& affine) {
  TRIPHASE_CHECK(DataError, is_finite(affine),
                 "the scan's affine is not finite. Repair its header.");
  GridView view;
  view.shape = shape;
  view.strides = {shape[1] * shape[2], shape[2], 1};
  view.affine = affine;
  return view;
}

ResamplePlan plan_resampling(const Shape3& shape, const Affine& affine,
                             const std::array<double, 3>& spacing_mm) {
  std::array<double, 3> target = spacing_mm;
  const Vector3 current = column_norms(linear_part(affine));
  for (std::size_t i = 0; i < 3; ++i)
    if (current[i] >= target[i] - kAffineTolerance && current[i] <= target[i] + kAffineTolerance)
      target[i] = current[i];

  ResamplePlan plan;
  plan.affine = zoomed(affine, target);
  const std::optional<Affine> to_new = solve(plan.affine, affine);
  TRIPHASE_CHECK(DataError, to_new.has_value(),
                 "the scan's affine cannot be inverted. Repair its header.");
  Corners mapped = corners_of(shape);
  for (Vector3& corner : mapped) corner = apply(*to_new, corner);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto [low, high] =
        std::minmax_element(mapped.begin(), mapped.end(),
                            [i](const Vector3& a, const Vector3& b) { return a[i] < b[i]; });
    const double size = std::nearbyint((*high)[i] - (*low)[i] + 1);
    plan.shape[i] = checked_size(size, spacing_mm[i], shape[i], current[i]);
  }
  const Vector3 translation = anchor(shape, affine, mapped, plan.affine, plan.shape);
  for (std::size_t i = 0; i < 3; ++i) plan.affine[i][3] = translation[i];

  const std::optional<Affine> index_map = solve(affine, plan.affine);
  TRIPHASE_CHECK(DataError, index_map.has_value(),
                 "the scan's affine cannot be inverted. Repair its header.");
  plan.index_map = *index_map;
  plan.unchanged = plan.shape == shape &&
                   (all_close(affine, plan.affine) || all_close(plan.index_map, identity_affine()));
  if (plan.unchanged) plan.affine = affine;
  return plan;
}

ResamplePlan plan_interpolation(const Shape3& shape, const Affine& affine,
                                const std::array<double, 3>& spacing_mm) {
  const Vector3 current = column_norms(linear_part(affine));
  ResamplePlan plan;
  plan.index_map = identity_affine();
  for (std::size_t i = 0; i < 3; ++i) {
    const auto length = static_cast<double>(shape[i]);
    // In CT-CLIP's order of operations: the last bit decides what is cut off.
    const double size = std::trunc(length * (current[i] / spacing_mm[i]));
    plan.shape[i] = checked_size(size, spacing_mm[i], shape[i], current[i]);
    const double scale = length / size;
    plan.index_map[i][i] = scale;
    plan.index_map[i][3] = 0.5 * scale - 0.5;
  }
  plan.affine = multiply(affine, plan.index_map);
  plan.unchanged = plan.shape == shape;
  return plan;
}

}  // namespace triphase::data
