// SPDX-License-Identifier: Apache-2.0
#include "data/augment.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

constexpr Shape3 kShape{7, 6, 5};
constexpr std::size_t kSize = 7 * 6 * 5;
constexpr std::array<double, 2> kRange{0, 1};

std::vector<float> ramp() {
  std::vector<float> volume(kSize);
  for (std::size_t i = 0; i < kSize; ++i) volume[i] = static_cast<float>(i) / kSize;
  return volume;
}

std::vector<float> augmented(const AugmentOptions& options, std::uint64_t key) {
  std::vector<float> volume = ramp();
  augment_volume(options, kShape, kRange, KeyedRandom{key}, volume.data());
  return volume;
}

TEST(Augment, ByDefaultNothingChanges) {
  for (std::uint64_t key = 0; key < 20; ++key) EXPECT_EQ(augmented({}, key), ramp());
}

TEST(Augment, TheSameKeyGivesTheSameBitsAndAnotherKeyOthers) {
  const AugmentOptions all{
      .shift_voxels = 2, .intensity_scale = 0.05, .intensity_offset = 0.05, .noise_sigma = 0.03};
  EXPECT_EQ(augmented(all, 1), augmented(all, 1));
  EXPECT_NE(augmented(all, 1), augmented(all, 2));
}

TEST(Augment, AShiftMovesVoxelsAsAWholeAndRepeatsTheBorder) {
  const std::vector<float> source = ramp();
  std::set<std::array<std::int64_t, 3>> shifts;
  for (std::uint64_t key = 0; key < 400; ++key) {
    const auto moved = augmented({.shift_voxels = 1}, key);
    int fits = 0;
    for (std::int64_t a = -1; a <= 1; ++a)
      for (std::int64_t b = -1; b <= 1; ++b)
        for (std::int64_t c = -1; c <= 1; ++c) {
          bool same = true;
          for (std::int64_t x = 0; x < 7 && same; ++x)
            for (std::int64_t y = 0; y < 6 && same; ++y)
              for (std::int64_t z = 0; z < 5 && same; ++z) {
                const std::int64_t u = std::clamp<std::int64_t>(x - a, 0, 6);
                const std::int64_t v = std::clamp<std::int64_t>(y - b, 0, 5);
                const std::int64_t w = std::clamp<std::int64_t>(z - c, 0, 4);
                same = moved[static_cast<std::size_t>((x * 6 + y) * 5 + z)] ==
                       source[static_cast<std::size_t>((u * 6 + v) * 5 + w)];
              }
          if (same) shifts.insert({a, b, c});
          fits += same ? 1 : 0;
        }
    EXPECT_EQ(fits, 1) << key;
  }
  EXPECT_EQ(shifts.size(), 27U);  // every shift is drawn
}

TEST(Augment, ScaleAndOffsetStayWithinTheirBoundsAboutTheMiddle) {
  double smallest = 9, largest = -9;
  for (std::uint64_t key = 0; key < 300; ++key) {
    std::vector<float> volume(kSize, 0.5F);
    augment_volume({.intensity_scale = 0.4}, kShape, kRange, KeyedRandom{key}, volume.data());
    EXPECT_NEAR(static_cast<double>(volume[3]), 0.5, 1e-6);  // the middle does not move; float32
    const auto moved = augmented({.intensity_offset = 0.1}, key);
    const double offset = static_cast<double>(moved[0]);
    smallest = std::min(smallest, offset);
    largest = std::max(largest, offset);
    EXPECT_NEAR(static_cast<double>(moved[kSize - 1]) - offset,
                static_cast<double>(ramp()[kSize - 1]), 1e-6);
  }
  EXPECT_LT(smallest, -0.09);
  EXPECT_GT(largest, 0.09);
  EXPECT_GE(smallest, -0.1);
  EXPECT_LE(largest, 0.1);
}

TEST(Augment, NoiseHasTheStrengthThatWasAskedFor) {
  double squares = 0;
  for (std::uint64_t key = 0; key < 50; ++key) {
    const auto noisy = augmented({.noise_sigma = 0.2}, key);
    for (std::size_t i = 0; i < kSize; ++i)
      squares += std::pow(static_cast<double>(noisy[i] - ramp()[i]), 2) / (50.0 * kSize);
  }
  EXPECT_NEAR(std::sqrt(squares), 0.2, 0.01);
}

constexpr std::int64_t kPeriod = 9;
const std::vector<std::int64_t> kReport{0,  11, 12, 9, 21, 9,
                                        31, 32, 33, 9, 41, 2};  // the last has no period

std::vector<std::int64_t> dropped(double chance, std::uint64_t key, std::int64_t period = kPeriod) {
  return augment_tokens({.text_drop = chance}, kReport, period, KeyedRandom{key});
}

TEST(AugmentTokens, KeepsWholeSentencesInOrderNeverNoneAndBothSpecials) {
  std::set<std::vector<std::int64_t>> seen;
  for (std::uint64_t key = 0; key < 2000; ++key) {
    const auto kept = dropped(1, key);
    seen.insert(kept);
    EXPECT_EQ(kept.front(), 0);
    EXPECT_EQ(kept.back(), 2);
    EXPECT_GT(kept.size(), 2U);
  }
  std::set<std::vector<std::int64_t>> subsets;
  const std::vector<std::vector<std::int64_t>> sentences{
      {11, 12, 9}, {21, 9}, {31, 32, 33, 9}, {41}};
  for (unsigned bits = 1; bits < 16; ++bits) {
    std::vector<std::int64_t> subset{0};
    for (unsigned i = 0; i < 4; ++i)
      if (bits & (1U << i)) subset.insert(subset.end(), sentences[i].begin(), sentences[i].end());
    subset.push_back(2);
    subsets.insert(subset);
  }
  EXPECT_EQ(seen, subsets);
}

TEST(AugmentTokens, KeepsAnyNumberOfSentencesEquallyOften) {
  // One that stays and a binomial of the rest with a uniform share: uniform from one to all.
  std::array<int, 5> times{};
  const auto ends = [](const std::vector<std::int64_t>& kept) {
    return std::count(kept.begin(), kept.end(), kPeriod) + std::count(kept.begin(), kept.end(), 41);
  };
  for (std::uint64_t key = 0; key < 4000; ++key)
    ++times.at(static_cast<std::size_t>(ends(dropped(1, key))));
  for (std::size_t n = 1; n <= 4; ++n) EXPECT_NEAR(times.at(n), 1000, 110) << n;  // sd 27
}

TEST(AugmentTokens, LeavesTheReportAloneAsOftenAsItShould) {
  int changed = 0;
  for (std::uint64_t key = 0; key < 2000; ++key) {
    EXPECT_EQ(dropped(0, key), kReport);
    EXPECT_EQ(dropped(1, key, -1), kReport);
    changed += dropped(0.5, key) == kReport ? 0 : 1;
  }
  // Half of them are looked at, and one of four of those keeps everything: 3/8 of 2000, sd 22.
  EXPECT_NEAR(changed, 750, 110);
  EXPECT_EQ(augment_tokens({.text_drop = 1}, {0, 2}, kPeriod, KeyedRandom{1}),
            (std::vector<std::int64_t>{0, 2}));
}

}  // namespace
}  // namespace triphase::data
