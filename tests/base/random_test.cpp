// SPDX-License-Identifier: Apache-2.0
#include "base/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

namespace triphase {
namespace {

TEST(Mix64, IsSplitMix64) {
  // First output of the reference implementation for the seeds 0 and 1234567.
  // Source: prng.di.unimi.it/splitmix64.c.
  static_assert(mix64(0) == 0xe220a8397b1dcdafULL);
  static_assert(mix64(1234567) == 6457827717110365317ULL);
}

// The values below come from an independent implementation of the header's definition. They must
// never change: plans, phantoms and bootstrap intervals of old runs depend on them.
TEST(KeyedRandom, GivesTheSameNumbersForEver) {
  KeyedRandom bits{1, 2, 3};
  EXPECT_EQ(bits.bits(), 0x0f8023da15ba084fULL);
  EXPECT_EQ(bits.bits(), 0x4f7e8a2706312dbeULL);
  EXPECT_EQ(bits.bits(), 0x5ff2ca936506af56ULL);
  EXPECT_EQ(bits.bits(), 0x2c2e1a99bcf1aa47ULL);
  KeyedRandom uniform{7};
  EXPECT_EQ(uniform.uniform(), 0.04135676114116349);
  EXPECT_EQ(uniform.uniform(), 0.44298630394413163);
  KeyedRandom below{1, 2, 3};
  for (const std::uint64_t expected : {55U, 502U, 854U, 199U, 539U, 143U})
    EXPECT_EQ(below.below(1000), expected);
  EXPECT_EQ(keyed_permutation(10, KeyedRandom{42, 0}),
            (std::vector<std::int64_t>{3, 1, 0, 9, 7, 8, 5, 6, 4, 2}));
}

TEST(KeyedRandom, DependsOnEveryPartOfTheKeyAndOnItsOrder) {
  std::set<std::uint64_t> first_values;
  for (std::uint64_t a = 0; a < 16; ++a)
    for (std::uint64_t b = 0; b < 16; ++b) {
      first_values.insert(KeyedRandom{a, b}.bits());
      first_values.insert(KeyedRandom{a, b, 0}.bits());
    }
  EXPECT_EQ(first_values.size(), 512U);
}

TEST(KeyedRandom, UniformStaysInItsRange) {
  KeyedRandom random{11};
  double sum = 0;
  for (int i = 0; i < 20000; ++i) {
    const double value = random.uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    const double scaled = random.uniform(-3, 5);
    ASSERT_GE(scaled, -3.0);
    ASSERT_LT(scaled, 5.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 20000, 0.5, 0.01);  // 5 standard errors of 0.289 / sqrt(20000)
}

TEST(KeyedRandom, BelowStaysBelowForEverySize) {
  KeyedRandom random{12};
  const std::uint64_t largest = ~std::uint64_t{0};
  for (const std::uint64_t n : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3},
                                std::uint64_t{1000}, (std::uint64_t{1} << 63) + 1, largest}) {
    for (int i = 0; i < 200; ++i) ASSERT_LT(random.below(n), n);
  }
}

// Just above half of 2^64 a plain remainder would land in the lower half twice as often.
TEST(KeyedRandom, BelowHasNoModuloBias) {
  const std::uint64_t n = (std::uint64_t{3} << 62);  // 3/4 of the range
  KeyedRandom random{13};
  constexpr int kDraws = 30000;
  std::array<int, 3> thirds{};
  for (int i = 0; i < kDraws; ++i) ++thirds[random.below(n) >> 62];
  for (const int count : thirds) EXPECT_NEAR(count, kDraws / 3, 410);  // 5 sigma of 81.6
}

TEST(KeyedRandom, ChanceIsNeverAtZeroAndAlwaysAtOne) {
  KeyedRandom random{14};
  int hits = 0;
  for (int i = 0; i < 10000; ++i) {
    ASSERT_FALSE(random.chance(0));
    ASSERT_TRUE(random.chance(1));
    hits += random.chance(0.25) ? 1 : 0;
  }
  EXPECT_NEAR(hits, 2500, 220);  // 5 sigma of 43.3
}

TEST(KeyedRandom, NormalHasItsFirstFourMoments) {
  KeyedRandom random{15};
  constexpr int kDraws = 40000;
  std::array<double, 5> moments{};
  for (int i = 0; i < kDraws; ++i) {
    const double value = (random.normal(2, 3) - 2) / 3;
    ASSERT_TRUE(std::isfinite(value));
    double power = 1;
    for (double& moment : moments) {
      moment += power / kDraws;
      power *= value;
    }
  }
  // 5 standard errors: sqrt(var(x^k) / n) with var 1, 2, 15, 96.
  EXPECT_NEAR(moments[1], 0, 0.025);
  EXPECT_NEAR(moments[2], 1, 0.036);
  EXPECT_NEAR(moments[3], 0, 0.097);
  EXPECT_NEAR(moments[4], 3, 0.245);
}

TEST(KeyedPermutation, HoldsEveryIndexOnceForEverySize) {
  for (std::int64_t n = 0; n < 60; ++n) {
    std::vector<std::int64_t> order =
        keyed_permutation(n, KeyedRandom{5, static_cast<std::uint64_t>(n)});
    std::sort(order.begin(), order.end());
    ASSERT_EQ(order.size(), static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
  }
}

TEST(KeyedPermutation, DependsOnTheKeyAlone) {
  const auto order = [](std::uint64_t seed, std::uint64_t epoch) {
    return keyed_permutation(100, KeyedRandom{seed, epoch});
  };
  EXPECT_EQ(order(1, 2), order(1, 2));
  EXPECT_NE(order(1, 2), order(1, 3));
  EXPECT_NE(order(1, 2), order(2, 2));
}

TEST(KeyedPermutation, PutsEveryIndexAtEveryPlaceEquallyOften) {
  std::array<std::array<int, 4>, 4> counts{};
  constexpr int kDraws = 8000;
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) {
    const auto order = keyed_permutation(4, KeyedRandom{seed});
    for (std::size_t place = 0; place < 4; ++place)
      ++counts[place][static_cast<std::size_t>(order[place])];
  }
  for (const auto& place : counts)
    for (const int count : place) EXPECT_NEAR(count, kDraws / 4, 194);  // 5 sigma of 38.7
}

}  // namespace
}  // namespace triphase
