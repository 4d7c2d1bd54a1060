// SPDX-License-Identifier: Apache-2.0
#include "data/dicom/series_geometry.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "data/affine.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::expect_error;

/// A rotation, spacings and a step along the normal with some shear.
struct RandomSeries {
  explicit RandomSeries(std::uint64_t seed, double shear = 0) : random{71, seed} {
    Matrix3 noise{};
    for (auto& row : noise)
      for (double& number : row) number = random.uniform(-1, 1);
    const Matrix3 turn = *polar_rotation(noise);
    const auto count = 2 + random.below(30);
    const std::array<double, 2> spacing{random.uniform(0.3, 2), random.uniform(0.3, 2)};
    const double gap = random.uniform(0.5, 8);
    const Vector3 row{turn[0][0], turn[1][0], turn[2][0]};
    const Vector3 column{turn[0][1], turn[1][1], turn[2][1]};
    const Vector3 normal{row[1] * column[2] - row[2] * column[1], row[2] * column[0] - row[0] * column[2],
                         row[0] * column[1] - row[1] * column[0]};
    Vector3 origin{};
    for (std::size_t i = 0; i < 3; ++i) {
      origin[i] = random.uniform(-300, 300);
      step[i] = gap * (normal[i] + shear * column[i]);
    }
    for (std::uint64_t k = 0; k < count; ++k) {
      DicomSlice slice{.name = str("s", k)};
      for (std::size_t i = 0; i < 3; ++i) {
        slice.position_mm[i] = origin[i] + static_cast<double>(k) * step[i];
        slice.orientation[i] = row[i];
        slice.orientation[3 + i] = column[i];
      }
      slice.spacing_mm = spacing;
      slice.num_rows = 7;
      slice.num_columns = 9;
      slices.push_back(slice);
    }
  }
  KeyedRandom random;
  std::vector<DicomSlice> slices;  ///< in order
  Vector3 step{};
};

TEST(SeriesGeometry, EveryVoxelLiesWhereItsSliceSays) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    RandomSeries made(seed, seed % 3 == 0 ? 0.3 : 0);
    std::vector<DicomSlice> given = made.slices;
    for (std::size_t i = given.size() - 1; i > 0; --i) std::swap(given[i], given[made.random.below(i + 1)]);
    const SeriesGeometry geometry = series_geometry(given);
    ASSERT_EQ(geometry.shape, (Shape3{9, 7, std::ssize(given)}));
    for (std::size_t k = 0; k < given.size(); ++k) {
      const DicomSlice& slice = given[geometry.order[k]];
      EXPECT_EQ(slice.name, str("s", k));
      for (const auto& [column, row] : {std::pair{0.0, 0.0}, {8.0, 0.0}, {3.0, 6.0}}) {
        const Vector3 ras = apply(geometry.affine, {column, row, static_cast<double>(k)});
        for (std::size_t i = 0; i < 3; ++i) {
          const double lps = slice.position_mm[i] + slice.orientation[i] * slice.spacing_mm[1] * column +
                             slice.orientation[3 + i] * slice.spacing_mm[0] * row;
          EXPECT_NEAR((i < 2 ? -1 : 1) * ras[i], lps, 1e-9);
        }
      }
    }
  }
}

TEST(SeriesGeometry, RoundedPositionsAreTakenAndFaultsAreNamed) {
  const auto fault = [](const std::vector<DicomSlice>& slices, std::initializer_list<std::string> words) {
    expect_error<DataError>([&] { (void)series_geometry(slices); }, ExitCode::kBadData, words);
  };
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomSeries made(seed);
    while (made.slices.size() < 6) made = RandomSeries(seed += 1000);
    const double gap = std::sqrt(made.step[0] * made.step[0] + made.step[1] * made.step[1] + made.step[2] * made.step[2]);
    auto slices = made.slices;
    for (std::size_t i = 0; i < 3; ++i) slices[2].position_mm[i] += 0.004 * gap / std::sqrt(3);
    EXPECT_NO_THROW((void)series_geometry(slices));
    for (const std::size_t first : {std::size_t{0}, std::size_t{3}}) {  // a row's direction, then a column's, too long
      slices = made.slices;
      for (DicomSlice& slice : slices)
        for (std::size_t i = first; i < first + 3; ++i) slice.orientation[i] *= 1.01;
      fault(slices, {"'s0'", "length 1"});
    }
    slices = made.slices;
    slices[3].position_mm = slices[2].position_mm;
    fault(slices, {"'s2'", "'s3'", "same place"});
    slices = made.slices;
    slices.erase(slices.begin() + 2);
    fault(slices, {"1 slice is missing between slices 's1' and 's3'"});
    slices.erase(slices.begin() + 2);
    if (slices.size() > 4) fault(slices, {"2 slices are missing between slices 's1' and 's4'"});
    slices = made.slices;
    for (std::size_t k = 3; k < slices.size(); ++k)
      for (std::size_t i = 0; i < 3; ++i) slices[k].position_mm[i] += 0.3 * made.step[i];
    fault(slices, {"'s2' and 's3'", "one spacing"});
    slices = made.slices;
    for (std::size_t i = 0; i < 3; ++i) slices[3].position_mm[i] += 0.1 * gap * slices[3].orientation[i];
    fault(slices, {"off the line"});
    slices = made.slices;
    slices[1].position_mm[made.random.below(3)] = std::nan("");
    fault(slices, {"'s1'", "not finite"});
    slices = made.slices;
    slices[4].spacing_mm[made.random.below(2)] *= 1.5;
    fault(slices, {"'s4'", "pixel spacing", "'s0'"});
    slices = made.slices;
    slices[4].orientation[made.random.below(6)] += 0.2;
    fault(slices, {"'s4'"});
  }
  fault({}, {"0 slices"});
}

}  // namespace
}  // namespace triphase::data
