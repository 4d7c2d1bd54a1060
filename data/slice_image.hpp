// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/volume.hpp"

namespace triphase::data {

/// One slice through the middle of a volume, as radiologists look at it.
struct SliceImage {
  std::string name;  ///< "axial", "coronal" or "sagittal"
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> grey;  ///< row by row from the upper left corner; 0 black, 255 white
  double width_mm = 0;
  double height_mm = 0;
  /// Patient's directions at the left, right, upper and lower edge: R, L, A, P, S or I, as the
  /// affine says.
  std::array<std::string, 4> edges;
};

/// Axial and coronal slices show the patient's right at the left, sagittal ones the front at the
/// left; coronal and sagittal ones have the head up. Purely local.
/// @param volume [X,Y,Z], X to the patient's right, Y to the front, Z to the head, as preprocess()
///        gives it; with another affine the pictures are turned, and `edges` say so
/// @param range grey runs from the first to the second
[[nodiscard]] std::array<SliceImage, 3> middle_slices(const Volume& volume,
                                                      const std::array<double, 2>& range);

/// An 8-bit grey PNG file. Source: PNG specification, 3rd edition (W3C).
[[nodiscard]] std::string png_of(const SliceImage& image);

}  // namespace triphase::data
