// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>

#include "data/volume.hpp"

namespace triphase::data {

/// What a manifest says of a scan that the scan's own file does not, or says wrongly: CT-RATE's raw
/// volumes come without rescaling and with another spacing than they have.
struct ScanCorrection {
  double hu_slope = 1;  ///< HU = hu_slope * (what the file gives) + hu_intercept
  double hu_intercept = 0;
  std::array<double, 3> spacing_mm{0, 0, 0};  ///< along the axes as stored; 0: as the file says

  bool operator==(const ScanCorrection&) const = default;
  [[nodiscard]] bool is_none() const { return *this == ScanCorrection{}; }
};

/// The affine with its columns stretched to the given spacings; directions and origin stay.
[[nodiscard]] Affine corrected_affine(const Affine& affine, const ScanCorrection& correction);

/// What is wrong with it (a number that is not finite, a slope of 0, a spacing outside 1e-3 to 1e3 mm),
/// as in "hu_slope is 0"; empty when nothing is.
[[nodiscard]] std::string fault_of(const ScanCorrection& correction);

}  // namespace triphase::data
