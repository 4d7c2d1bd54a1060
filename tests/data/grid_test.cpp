// SPDX-License-Identifier: Apache-2.0
#include "data/grid.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "data/affine.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::expect_error;

Matrix3 random_matrix(KeyedRandom& random) {
  Matrix3 m{};
  for (auto& row : m)
    for (double& value : row) value = random.uniform(-2, 2);
  return m;
}

Matrix3 transposed(const Matrix3& m) {
  Matrix3 t{};
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) t[i][j] = m[j][i];
  return t;
}

void expect_near(const Matrix3& a, const Matrix3& b, double tolerance) {
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) EXPECT_NEAR(a[i][j], b[i][j], tolerance) << i << "," << j;
}

constexpr Matrix3 kUnit{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};

Affine diagonal(double x, double y, double z) {
  return affine_from({{{x, 0, 0}, {0, y, 0}, {0, 0, z}}}, {0, 0, 0});
}

/// In float64, of matrices that are far enough from singular.
TEST(Affine, DecompositionsGiveBackTheirMatrix) {
  int num_checked = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    KeyedRandom random{61, seed};
    const Matrix3 a = random_matrix(random);
    const auto inverted = inverse(a);
    ASSERT_TRUE(inverted.has_value());
    double largest = 0;
    for (const auto& row : *inverted)
      for (const double value : row) largest = std::max(largest, std::abs(value));
    if (largest > 20) continue;  // nearly singular
    ++num_checked;
    expect_near(multiply(a, *inverted), kUnit, 1e-12);

    const auto upper = upper_cholesky_of_gram(a);
    ASSERT_TRUE(upper.has_value());
    expect_near(multiply(transposed(*upper), *upper), multiply(transposed(a), a), 1e-12);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_GT((*upper)[i][i], 0);
      for (std::size_t j = 0; j < i; ++j) EXPECT_EQ((*upper)[i][j], 0);
    }

    const auto rotation = polar_rotation(a);
    ASSERT_TRUE(rotation.has_value());
    expect_near(multiply(transposed(*rotation), *rotation), kUnit, 1e-12);
    // The nearest one: what is left is symmetric, with a positive Cholesky factor of its own.
    const Matrix3 rest = multiply(transposed(*rotation), a);
    expect_near(rest, transposed(rest), 1e-11);
    EXPECT_GT(rest[0][0], 0);
    EXPECT_GT(rest[0][0] * rest[1][1] - rest[0][1] * rest[1][0], 0);
  }
  EXPECT_GT(num_checked, 150);
}

TEST(Affine, SolvingUndoesMultiplying) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    KeyedRandom random{62, seed};
    const Affine a = affine_from(random_matrix(random), {1, -2, 3});
    const Affine x = affine_from(random_matrix(random), {random.uniform(-9, 9), 5, 6});
    const auto found = solve(a, multiply(a, x));
    ASSERT_TRUE(found.has_value());
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_NEAR((*found)[i / 4][i % 4], x[i / 4][i % 4], 1e-9) << seed;
    const Vector3 once = data::apply(multiply(a, x), {1, 2, 3});
    const Vector3 twice = data::apply(a, data::apply(x, {1, 2, 3}));
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(once[i], twice[i], 1e-12);
  }
}

TEST(Affine, SolvingMultipliesWithTheReciprocalAsTheReferenceDoes) {
  const auto found = solve(diagonal(3, 7, 49), diagonal(5, 3, 11));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ((*found)[0][0], 5 * (1 / 3.0));
  EXPECT_EQ((*found)[1][1], 3 * (1 / 7.0));
  EXPECT_EQ((*found)[2][2], 11 * (1 / 49.0));
  EXPECT_NE(5 * (1 / 3.0), 5 / 3.0);  // or this test would show nothing
}

TEST(Affine, SingularMatricesHaveNoInverse) {
  const Matrix3 flat{{{1, 2, 3}, {2, 4, 6}, {0, 1, 1}}};
  EXPECT_FALSE(inverse(flat).has_value());
  EXPECT_FALSE(upper_cholesky_of_gram({{{1, 0, 0}, {0, 0, 0}, {0, 0, 1}}}).has_value());
  EXPECT_FALSE(polar_rotation({{{1, 0, 0}, {0, 0, 0}, {0, 0, 1}}}).has_value());
  EXPECT_FALSE(solve(affine_from(flat, {0, 0, 0}), identity_affine()).has_value());
  Affine bad = identity_affine();
  EXPECT_TRUE(is_finite(bad));
  bad[1][3] = std::nan("");
  EXPECT_FALSE(is_finite(bad));
}

TEST(Affine, ColumnNormsAreMillimetresPerVoxel) {
  const Vector3 norms = column_norms({{{3, 0, 1}, {4, 0, 2}, {0, -2, 2}}});
  EXPECT_EQ(norms, (Vector3{5, 2, 3}));
}

/// Whatever the orientation: an index of the view is the same place in space and in memory.
TEST(Grid, AViewShowsTheSamePlacesAlongRas) {
  const Shape3 shape{4, 3, 5};
  for (std::uint64_t seed = 0; seed < 96; ++seed) {
    SCOPED_TRACE(seed);
    KeyedRandom random{63, seed};
    std::array<std::size_t, 3> axes{0, 1, 2};
    for (std::size_t i = 0; i < seed % 6; ++i) std::next_permutation(axes.begin(), axes.end());
    Matrix3 linear{};
    for (std::size_t j = 0; j < 3; ++j)
      linear[axes[j]][j] = random.uniform(0.5, 3) * ((seed / 6) >> j & 1U ? -1 : 1);
    for (auto& row : linear)
      for (double& value : row) value += random.uniform(-0.1, 0.1);  // slightly oblique
    const Affine affine = affine_from(linear, {7, -8, 9});
    const GridView view = view_as_ras(shape, affine);
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t j = 0; j < 3; ++j)
        if (i != j) {
          EXPECT_GT(view.affine[i][i], std::abs(view.affine[i][j]));
        }
    for (std::int64_t i = 0; i < view.shape[0]; ++i)
      for (std::int64_t j = 0; j < view.shape[1]; ++j)
        for (std::int64_t k = 0; k < view.shape[2]; ++k) {
          const std::int64_t place =
              view.start + i * view.strides[0] + j * view.strides[1] + k * view.strides[2];
          ASSERT_GE(place, 0);
          ASSERT_LT(place, 60);
          const Vector3 stored{static_cast<double>(place / 15), static_cast<double>(place / 5 % 3),
                               static_cast<double>(place % 5)};
          const Vector3 seen =
              data::apply(view.affine,
                          {static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)});
          const Vector3 expected = data::apply(affine, stored);
          for (std::size_t a = 0; a < 3; ++a) ASSERT_NEAR(seen[a], expected[a], 1e-12);
        }
  }
}

TEST(Grid, SizesAreRoundedHalfToEven) {
  // Ten voxels span nine millimetres: 4.5 + 1 = 5.5 of two, 2.25 + 1 of four; eight span seven.
  EXPECT_EQ(plan_resampling({10, 10, 8}, identity_affine(), {2, 4, 2}).shape, (Shape3{6, 3, 4}));
  EXPECT_EQ(plan_resampling({10, 1, 2}, identity_affine(), {0.5, 3, 3}).shape, (Shape3{19, 1, 1}));
}

TEST(Grid, TheFirstVoxelStaysWhereItIs) {
  const Affine affine = affine_from({{{1, 0, 0}, {0, 1.5, 0}, {0, 0, 5}}}, {-11, 22, 33});
  const ResamplePlan plan = plan_resampling({10, 11, 12}, affine, {2, 2, 3});
  EXPECT_FALSE(plan.unchanged);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(plan.affine[i][3], affine[i][3], 1e-12);
  EXPECT_NEAR(plan.index_map[0][0], 2, 1e-12);
  EXPECT_NEAR(plan.index_map[1][1], 2 / 1.5, 1e-12);
  EXPECT_NEAR(plan.index_map[2][2], 0.6, 1e-12);
}

/// Shear drops out of the new grid. Where no corner is smallest along all new axes, by 1e-8 of a
/// new voxel, the centres of both grids coincide; index N/2 stands for the centre.
TEST(Grid, WhereNoCornerIsSmallestTheCentresCoincide) {
  const Shape3 shape{10, 10, 10};
  const auto sheared = [](double shear) {
    return affine_from({{{1, shear, 0}, {0, 1, 0}, {0, 0, 1}}}, {3, 4, 5});
  };
  for (const double shear : {-0.5, -1e-2, -1e-7}) {
    SCOPED_TRACE(shear);
    const Affine affine = sheared(shear);
    const ResamplePlan plan = plan_resampling(shape, affine, {2, 2, 2});
    const Vector3 old_centre = data::apply(affine, {5, 5, 5});
    const Vector3 new_centre = data::apply(plan.affine, {static_cast<double>(plan.shape[0]) / 2,
                                                         static_cast<double>(plan.shape[1]) / 2,
                                                         static_cast<double>(plan.shape[2]) / 2});
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(new_centre[i], old_centre[i], 1e-9);
  }
  for (const double shear : {0.0, -1e-9, 0.5}) {  // 9e-9 mm are 4.5e-9 new voxels
    SCOPED_TRACE(shear);
    const ResamplePlan plan = plan_resampling(shape, sheared(shear), {2, 2, 2});
    EXPECT_NEAR(plan.affine[0][3], 3, 1e-9);
    EXPECT_NEAR(plan.affine[1][3], 4, 1e-9);
    EXPECT_NEAR(plan.affine[2][3], 5, 1e-9);
  }
}

TEST(Grid, ASpacingWithinAThousandthIsKept) {
  const Affine close = diagonal(1.0009, 0.9991, 1);
  const ResamplePlan kept = plan_resampling({200, 200, 4}, close, {1, 1, 1});
  EXPECT_TRUE(kept.unchanged);
  EXPECT_EQ(kept.affine, close);
  EXPECT_EQ(kept.shape, (Shape3{200, 200, 4}));
  const ResamplePlan changed = plan_resampling({10, 10, 4}, diagonal(1.0012, 1, 1), {1, 1, 1});
  EXPECT_FALSE(changed.unchanged);
  EXPECT_NEAR(changed.affine[0][0], 1, 1e-12);
}

TEST(Grid, ImpossibleGridsAreRefused) {
  expect_error<DataError>(
      [] {
        (void)view_as_ras({2, 2, 2}, diagonal(1, 0, 1));
      },
      ExitCode::kBadData, {"singular"});
  expect_error<DataError>(
      [] {
        (void)view_as_ras({2, 2, 2}, diagonal(1, std::nan(""), 1));
      },
      ExitCode::kBadData, {"not finite"});
  expect_error<DataError>(
      [] {
        (void)plan_resampling({2, 2, 2}, diagonal(1, 0, 1), {1, 1, 1});
      },
      ExitCode::kBadData, {"singular"});
  // 2^20 voxels are allowed, one more is not.
  EXPECT_EQ(plan_resampling({2, 2, 2}, diagonal((1 << 20) - 1, 1, 1), {1, 1, 1}).shape[0], 1 << 20);
  expect_error<DataError>(
      [] {
        (void)plan_resampling({2, 2, 2}, diagonal(1 << 20, 1, 1), {1, 1, 1});
      },
      ExitCode::kBadData, {"1.04858e+06 voxels", "Check the spacing"});
}

}  // namespace
}  // namespace triphase::data
