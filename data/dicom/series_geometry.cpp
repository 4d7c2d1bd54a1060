// SPDX-License-Identifier: Apache-2.0
#include "data/dicom/series_geometry.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "data/affine.hpp"

namespace triphase::data {
namespace {

constexpr double kDirectionTolerance = 1e-3;  // decimals of DICOM's numbers are few
constexpr double kStepTolerance = 0.01;       // of the step

double dot(const Vector3& a, const Vector3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
Vector3 minus(const Vector3& a, const Vector3& b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }
Vector3 cross(const Vector3& a, const Vector3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
Vector3 row_direction(const DicomSlice& s) { return {s.orientation[0], s.orientation[1], s.orientation[2]}; }
Vector3 column_direction(const DicomSlice& s) { return {s.orientation[3], s.orientation[4], s.orientation[5]}; }

template <std::size_t N>
bool all_finite(const std::array<double, N>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](double number) { return std::isfinite(number); });
}

template <std::size_t N>
bool all_near(const std::array<double, N>& a, const std::array<double, N>& b, double tolerance) {
  for (std::size_t i = 0; i < N; ++i)
    if (!(std::abs(a[i] - b[i]) <= tolerance)) return false;
  return true;
}

void check_slice(const DicomSlice& slice) {
  TRIPHASE_CHECK(DataError,
                 all_finite(slice.position_mm) && all_finite(slice.orientation) && all_finite(slice.spacing_mm),
                 "slice '", slice.name, "' has a position, orientation or spacing that is not finite. ",
                 "Export the series again.");
  for (const double spacing_mm : slice.spacing_mm)
    TRIPHASE_CHECK(DataError, spacing_mm >= 1e-3 && spacing_mm <= 1e3, "slice '", slice.name,
                   "' has a pixel spacing of ", spacing_mm, " mm, which no scanner makes. Export the series again.");
  const Vector3 row = row_direction(slice);
  const Vector3 column = column_direction(slice);
  const bool is_unit = std::abs(dot(row, row) - 1) <= kDirectionTolerance &&
                       std::abs(dot(column, column) - 1) <= kDirectionTolerance;
  TRIPHASE_CHECK(DataError, is_unit && std::abs(dot(row, column)) <= kDirectionTolerance, "slice '", slice.name,
                 "' has an orientation whose directions are not of length 1 and at right angles. ",
                 "Export the series again.");
}

void check_same_grid(const DicomSlice& slice, const DicomSlice& first) {
  const auto refuse = [&](const char* what) {
    throw DataError(str("slice '", slice.name, "' has another ", what, " than slice '", first.name,
                        "'. Keep one series to a folder, without localizers."));
  };
  if (slice.num_rows != first.num_rows || slice.num_columns != first.num_columns) refuse("size");
  if (!all_near(slice.orientation, first.orientation, kDirectionTolerance)) refuse("orientation");
  if (!all_near(slice.spacing_mm, first.spacing_mm, 1e-3 * first.spacing_mm[0])) refuse("pixel spacing");
}

/// The usual distance between neighbours, whatever a few of them have.
double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + std::ssize(numbers) / 2;
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

/// @param heights along the normal, in order
void check_steps(const std::vector<double>& heights, const std::vector<const DicomSlice*>& sorted) {
  std::vector<double> gaps;
  for (std::size_t k = 1; k < heights.size(); ++k) gaps.push_back(heights[k] - heights[k - 1]);
  const double usual = median(gaps);
  for (std::size_t k = 0; k < gaps.size(); ++k) {
    const std::string between = str("between slices '", sorted[k]->name, "' and '", sorted[k + 1]->name, "'");
    TRIPHASE_CHECK(DataError, gaps[k] > 1e-3 && gaps[k] > kStepTolerance * usual, "slices '", sorted[k]->name,
                   "' and '", sorted[k + 1]->name, "' lie at the same place. Keep one series to a folder, each slice once.");
    const double steps = gaps[k] / usual;
    const double missing = std::round(steps) - 1;
    TRIPHASE_CHECK(DataError, missing < 1 || std::abs(steps - std::round(steps)) > 0.05, missing, " slice",
                   missing == 1 ? " is" : "s are", " missing ", between, " (", gaps[k], " mm apart, the others ", usual,
                   " mm). Export the series again.");
    TRIPHASE_CHECK(DataError, std::abs(steps - 1) <= kStepTolerance, "the distance ", between, " is ", gaps[k],
                   " mm, the others' ", usual,
                   " mm: a grid with one spacing cannot hold it. Take a series of even spacing.");
  }
}

}  // namespace

SeriesGeometry series_geometry(const std::vector<DicomSlice>& slices) {
  TRIPHASE_CHECK(DataError, slices.size() >= 2, "the series has ", slices.size(),
                 " slice", slices.size() == 1 ? "" : "s", "; a volume needs two. Fetch the others.");
  for (const DicomSlice& slice : slices) {
    check_slice(slice);
    check_same_grid(slice, slices.front());
  }
  const DicomSlice& any = slices.front();
  const Vector3 normal = cross(row_direction(any), column_direction(any));
  SeriesGeometry geometry;
  geometry.order.resize(slices.size());
  std::iota(geometry.order.begin(), geometry.order.end(), std::size_t{0});
  std::stable_sort(geometry.order.begin(), geometry.order.end(), [&](std::size_t a, std::size_t b) {
    return dot(slices[a].position_mm, normal) < dot(slices[b].position_mm, normal);
  });
  std::vector<double> heights;
  std::vector<const DicomSlice*> sorted;
  for (const std::size_t slice : geometry.order) {
    sorted.push_back(&slices[slice]);
    heights.push_back(dot(slices[slice].position_mm, normal));
  }
  check_steps(heights, sorted);

  const auto num_steps = static_cast<double>(slices.size() - 1);
  Vector3 step = minus(sorted.back()->position_mm, sorted.front()->position_mm);
  for (double& component : step) component /= num_steps;
  const double tolerance_mm = kStepTolerance * std::sqrt(dot(step, step));
  for (std::size_t k = 0; k < sorted.size(); ++k) {
    Vector3 expected = sorted.front()->position_mm;
    for (std::size_t i = 0; i < 3; ++i) expected[i] += static_cast<double>(k) * step[i];
    TRIPHASE_CHECK(DataError, all_near(sorted[k]->position_mm, expected, tolerance_mm), "slice '", sorted[k]->name,
                   "' is off the line through the others. Take a series whose slices were not moved against each other.");
  }

  geometry.shape = {any.num_columns, any.num_rows, std::ssize(slices)};
  geometry.affine = identity_affine();
  for (std::size_t i = 0; i < 3; ++i) {
    const double sign = i < 2 ? -1 : 1;  // LPS to RAS
    geometry.affine[i] = {sign * row_direction(any)[i] * any.spacing_mm[1],
                          sign * column_direction(any)[i] * any.spacing_mm[0], sign * step[i],
                          sign * sorted.front()->position_mm[i]};
  }
  return geometry;
}

}  // namespace triphase::data
