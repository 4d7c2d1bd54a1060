// SPDX-License-Identifier: Apache-2.0
// The fused passes of every kind of processor against the formulas in long double.
#include "dist/contrastive_kernel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace triphase::test {
namespace {

using dist::ContrastiveKernel;
using dist::LogitRows;

template <class T>
class ContrastiveKernelTest : public ::testing::Test {
 protected:
  /// Calls body(kernel) with all that this processor can run.
  template <class Body>
  static void with_every_kernel(Body&& body) {
    int count = 0;
    const auto* kernels = dist::all_contrastive_kernels<T>(count);
    for (int i = 0; i < count; ++i) {
      SCOPED_TRACE(kernels[i]->name);
      if (kernels[i]->is_usable()) body(*kernels[i]);
    }
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ContrastiveKernelTest, Types);

/// A slab of random logits in rows that are longer than they are wide.
template <class T>
struct SlabCase {
  std::int64_t num_rows, width, stride;
  std::vector<T> logits;
  std::vector<T> row_max, column_max, row_out, column_out;

  SlabCase(std::int64_t rows, std::int64_t columns, double scale, unsigned seed)
      : num_rows(rows), width(columns), stride(columns + dist::kWidthMultiple) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> random(-scale, scale);
    logits.resize(static_cast<std::size_t>(rows * stride));
    for (T& logit : logits) logit = static_cast<T>(random(engine));
    for (std::size_t k = 0; k < logits.size(); k += 7) logits[k] = T(dist::kExcludedLogit);
    row_max.assign(static_cast<std::size_t>(rows), T(dist::kLowestReference));
    column_max.assign(static_cast<std::size_t>(columns), T(dist::kLowestReference));
    row_out = row_max;
    column_out = column_max;
  }
  LogitRows<T> slab() { return {logits.data(), num_rows, stride, width}; }
  [[nodiscard]] long double at(std::int64_t i, std::int64_t j) const {
    return logits[static_cast<std::size_t>(i * stride + j)];
  }
};

template <class T>
long double exact(long double x) {
  return x < -1e20L ? 0 : std::exp(x);
}

double distance(long double a, long double b) { return static_cast<double>(std::abs(a - b)); }

TYPED_TEST(ContrastiveKernelTest, MaximaAreThoseOfRowsAndColumnsAndOfWhatWasThere) {
  using T = TypeParam;
  this->with_every_kernel([](const ContrastiveKernel<T>& kernel) {
    SlabCase<T> test(5, 48, 20, 1);
    test.row_max[2] = 50;
    test.column_max[3] = 60;
    kernel.maxima(test.slab(), test.row_max.data(), test.column_max.data());
    for (std::int64_t i = 0; i < 5; ++i) {
      long double most = i == 2 ? 50 : dist::kLowestReference;
      for (std::int64_t j = 0; j < 48; ++j) most = std::max(most, test.at(i, j));
      EXPECT_EQ(test.row_max[static_cast<std::size_t>(i)], static_cast<T>(most));
    }
    for (std::int64_t j = 0; j < 48; ++j) {
      long double most = j == 3 ? 60 : dist::kLowestReference;
      for (std::int64_t i = 0; i < 5; ++i) most = std::max(most, test.at(i, j));
      EXPECT_EQ(test.column_max[static_cast<std::size_t>(j)], static_cast<T>(most));
    }
  });
}

TYPED_TEST(ContrastiveKernelTest, SumsAreThoseOfTheExponentials) {
  using T = TypeParam;
  this->with_every_kernel([](const ContrastiveKernel<T>& kernel) {
    for (const double scale : {0.01, 3.0, 30.0, 100.0, 1000.0}) {
      SlabCase<T> test(9, 64, scale, 2);
      kernel.maxima(test.slab(), test.row_max.data(), test.column_max.data());
      kernel.sums(test.slab(), test.row_max.data(), test.column_max.data(), test.row_out.data(),
                  test.column_out.data());
      // 2 units in the last place of each exponential, one for each addition of a lane.
      const double tolerance = 8 * double{std::numeric_limits<T>::epsilon()};
      for (std::size_t i = 0; i < 9; ++i) {
        long double sum = 0;
        for (std::int64_t j = 0; j < 64; ++j)
          sum += exact<T>(test.at(static_cast<std::int64_t>(i), j) - test.row_max[i]);
        EXPECT_LE(distance(test.row_out[i] / sum, 1), tolerance)
            << "row " << i << ", scale " << scale;
      }
      for (std::size_t j = 0; j < 64; ++j) {
        long double sum = 0;
        for (std::int64_t i = 0; i < 9; ++i)
          sum += exact<T>(test.at(i, static_cast<std::int64_t>(j)) - test.column_max[j]);
        EXPECT_LE(distance(test.column_out[j] / sum, 1), tolerance) << "column " << j;
      }
    }
  });
}

TYPED_TEST(ContrastiveKernelTest, GradientsStandInPlaceOfTheLogits) {
  using T = TypeParam;
  this->with_every_kernel([](const ContrastiveKernel<T>& kernel) {
    SlabCase<T> test(7, 32, 30, 3);
    kernel.maxima(test.slab(), test.row_max.data(), test.column_max.data());
    const SlabCase<T> before = test;
    // Differences of logits, up to 60, carry half a unit of their own last place: 30 epsilon.
    constexpr double kEpsilon = 40 * double{std::numeric_limits<T>::epsilon()};
    std::vector<T> row_weight(7), column_weight(32);
    for (std::size_t i = 0; i < 7; ++i) row_weight[i] = T(0.25) + static_cast<T>(i);
    for (std::size_t j = 0; j < 32; ++j) column_weight[j] = T(1) / static_cast<T>(j + 1);
    kernel.gradient(test.slab(), test.row_max.data(), row_weight.data(), test.column_max.data(),
                    column_weight.data(), test.row_out.data());
    for (std::size_t i = 0; i < 7; ++i) {
      long double product = 0, size = 0;
      for (std::size_t j = 0; j < 32; ++j) {
        const auto row = static_cast<std::int64_t>(i), column = static_cast<std::int64_t>(j);
        const long double s = before.at(row, column);
        const long double g = exact<T>(s - before.row_max[i]) * row_weight[i] +
                              exact<T>(s - before.column_max[j]) * column_weight[j];
        EXPECT_LE(distance(test.at(row, column), g), kEpsilon * (static_cast<double>(g) + 1e-30));
        product += g * s;
        size += std::abs(g * s);
      }
      EXPECT_LE(distance(test.row_out[i], product), kEpsilon * static_cast<double>(size));
    }
    for (std::int64_t i = 0; i < 7; ++i)  // beyond the width nothing changes
      for (std::int64_t j = 32; j < before.stride; ++j) EXPECT_EQ(test.at(i, j), before.at(i, j));
  });
}

TYPED_TEST(ContrastiveKernelTest, TheLargestLogitCountsExactlyOneAndNaNReachesTheSum) {
  using T = TypeParam;
  this->with_every_kernel([](const ContrastiveKernel<T>& kernel) {
    SlabCase<T> test(1, 16, 1, 4);
    std::fill(test.logits.begin(), test.logits.end(), T(dist::kExcludedLogit));
    test.logits[5] = T(73.25);
    const auto run = [&] {
      kernel.maxima(test.slab(), test.row_max.data(), test.column_max.data());
      kernel.sums(test.slab(), test.row_max.data(), test.column_max.data(), test.row_out.data(),
                  test.column_out.data());
    };
    run();
    EXPECT_EQ(test.row_out[0], T(1));
    EXPECT_EQ(test.column_out[5], T(1));
    EXPECT_EQ(test.column_out[4], T(0));
    test.logits[7] = std::numeric_limits<T>::quiet_NaN();
    run();
    EXPECT_TRUE(std::isnan(test.row_out[0]));
    EXPECT_TRUE(std::isnan(test.column_out[7]));
  });
}

TYPED_TEST(ContrastiveKernelTest, WhatIsOfAnotherGroupIsExcluded) {
  using T = TypeParam;
  this->with_every_kernel([](const ContrastiveKernel<T>& kernel) {
    SlabCase<T> test(5, 32, 20, 5);
    const SlabCase<T> before = test;
    std::vector<T> row_group(5), column_group(32);
    for (std::size_t i = 0; i < 5; ++i) row_group[i] = static_cast<T>(i % 3);
    for (std::size_t j = 0; j < 32; ++j) column_group[j] = static_cast<T>(j % 4);
    kernel.exclude_other_groups(test.slab(), row_group.data(), column_group.data());
    for (std::int64_t i = 0; i < 5; ++i)
      for (std::int64_t j = 0; j < 32; ++j)
        EXPECT_EQ(test.at(i, j), i % 3 == j % 4
                                     ? before.at(i, j)
                                     : static_cast<long double>(T(dist::kExcludedLogit)));
  });
}

TYPED_TEST(ContrastiveKernelTest, SigmoidLossesAndGradientsFollowTheirFormulas) {
  using T = TypeParam;
  this->with_every_kernel([](const ContrastiveKernel<T>& kernel) {
    for (const double scale : {0.1, 5.0, 100.0}) {
      SlabCase<T> test(6, 48, scale, 6);
      const SlabCase<T> before = test;
      std::vector<T> sums(6), products(6), totals(6);
      constexpr T kBias = -2.5;
      constexpr T kWeight = 0.75;
      kernel.softplus_sums(test.slab(), kBias, sums.data());
      kernel.sigmoid_gradient(test.slab(), kBias, kWeight, products.data(), totals.data());
      const double epsilon = 8 * double{std::numeric_limits<T>::epsilon()};
      for (std::size_t i = 0; i < 6; ++i) {
        long double loss = 0, product = 0, size = 0, total = 0;
        for (std::int64_t j = 0; j < 48; ++j) {
          const long double s = before.at(static_cast<std::int64_t>(i), j);
          const long double x = s + kBias;
          loss += std::max(x, 0.0L) + std::log1p(std::exp(-std::abs(x)));
          const long double g = kWeight / (1 + std::exp(-x));
          // exp of x carries x's rounding
          EXPECT_LE(distance(test.at(static_cast<std::int64_t>(i), j), g),
                    epsilon * (1 + scale) * (static_cast<double>(g) + 1e-30));
          product += g * s;
          size += std::abs(g * s);
          total += g;
        }
        EXPECT_LE(distance(sums[i] / loss, 1), epsilon * (1 + scale));
        EXPECT_LE(distance(totals[i] / total, 1), epsilon * (1 + scale));
        EXPECT_LE(distance(products[i], product),
                  epsilon * (1 + scale) * static_cast<double>(size));
      }
    }
  });
}

TYPED_TEST(ContrastiveKernelTest, TheProcessorsOwnIsTheFirstItCanRun) {
  using T = TypeParam;
  int count = 0;
  const auto* kernels = dist::all_contrastive_kernels<T>(count);
  ASSERT_GE(count, 1);
  int first = 0;
  while (!kernels[first]->is_usable()) ++first;
  EXPECT_EQ(&dist::contrastive_kernel<T>(), kernels[first]);
  EXPECT_STREQ(kernels[count - 1]->name, "any");
}

}  // namespace
}  // namespace triphase::test
