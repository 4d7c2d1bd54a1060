// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/volume.hpp"

namespace triphase::data {

/// Where one slice of a series lies, as DICOM has it: patient coordinates in mm, x to the left, y to the back,
/// z to the head (LPS+).
struct DicomSlice {
  std::array<double, 3> position_mm{};     ///< ImagePositionPatient: centre of the first voxel
  std::array<double, 6> orientation{};     ///< ImageOrientationPatient: directions of a row and of a column
  std::array<double, 2> spacing_mm{};      ///< PixelSpacing: between rows, between columns
  std::int64_t num_rows = 0, num_columns = 0;
  std::string name;                        ///< for messages
};

struct SeriesGeometry {
  std::vector<std::size_t> order;  ///< slices from the first to the last along the normal
  Shape3 shape{};                  ///< columns, rows, slices
  Affine affine{};                 ///< RAS+
};

/// Puts a series' slices in order. The affine is exact: with a tilted gantry the third column is the step from
/// slice to slice, sheared against the normal. Positions may be off by 1 % of the step, as scanners round them.
/// @throws DataError that names slices: fewer than two, numbers that are not finite, directions that are not
///         unit and orthogonal, another orientation, spacing or size than the first slice's, two slices at
///         one place, missing slices, uneven steps
/// Source: DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1.
[[nodiscard]] SeriesGeometry series_geometry(const std::vector<DicomSlice>& slices);

}  // namespace triphase::data
