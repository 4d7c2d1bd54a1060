// SPDX-License-Identifier: Apache-2.0
#include "data/scan_correction.hpp"

#include <cmath>

#include "base/error.hpp"
#include "data/affine.hpp"

namespace triphase::data {

Affine corrected_affine(const Affine& affine, const ScanCorrection& correction) {
  const Vector3 norms = column_norms(linear_part(affine));
  Affine corrected = affine;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (correction.spacing_mm[axis] == 0 || norms[axis] == 0) continue;
    for (std::size_t row = 0; row < 3; ++row)
      corrected[row][axis] *= correction.spacing_mm[axis] / norms[axis];
  }
  return corrected;
}

std::string fault_of(const ScanCorrection& correction) {
  if (!std::isfinite(correction.hu_slope) || correction.hu_slope == 0)
    return str("hu_slope is ", correction.hu_slope);
  if (!std::isfinite(correction.hu_intercept)) return str("hu_intercept is ", correction.hu_intercept);
  constexpr std::array kNames{"spacing_x_mm", "spacing_y_mm", "spacing_z_mm"};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double spacing_mm = correction.spacing_mm[axis];
    if (spacing_mm != 0 && !(spacing_mm >= 1e-3 && spacing_mm <= 1e3))
      return str(kNames[axis], " is ", spacing_mm);
  }
  return "";
}

}  // namespace triphase::data
