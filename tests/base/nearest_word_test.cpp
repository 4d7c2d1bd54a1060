// SPDX-License-Identifier: Apache-2.0
#include "base/config_reader.hpp"
#include "base/random.hpp"

#include <gtest/gtest.h>

namespace triphase {
namespace {

const std::vector<std::string> kWords = {"loss.kind", "loss.temperature_init",
                                         "loss.temperature_learnable", "optimizer.lr",
                                         "schedule.warmup_steps"};

TEST(NearestWord, FindsEveryWordAfterOneSlip) {
  KeyedRandom random{31};
  const auto letter = [&] { return static_cast<char>('a' + random.below(26)); };
  for (const std::string& word : kWords) {
    for (int i = 0; i < 40; ++i) {
      std::string slip = word;
      const std::size_t at = random.below(word.size() - 1);
      switch (random.below(4)) {
        case 0:
          slip.erase(at, 1);
          break;
        case 1:
          slip.insert(at, 1, letter());
          break;
        case 2:
          slip[at] = letter();
          break;
        default:
          std::swap(slip[at], slip[at + 1]);
      }
      EXPECT_EQ(nearest_word(slip, kWords), word) << slip;
    }
  }
}

TEST(NearestWord, TakesTheNearerOfTwo) {
  EXPECT_EQ(nearest_word("loss.temperature_lernable", kWords), "loss.temperature_learnable");
  EXPECT_EQ(nearest_word("abcf", {"abxx", "abcd"}), "abcd");
  EXPECT_EQ(nearest_word("abc", {"abc", "abd"}), "abc");
}

// Counted as two, the swap would be too much for so short a word.
TEST(NearestWord, CountsASwapOfNeighboursAsOneSlip) { EXPECT_EQ(nearest_word("ab", {"ba"}), "ba"); }

TEST(NearestWord, IsSilentWhenNothingIsNear) {
  EXPECT_EQ(nearest_word("frobnicate", kWords), std::nullopt);
  EXPECT_EQ(nearest_word("abcdef", {"abcxyz"}), std::nullopt);
  EXPECT_EQ(nearest_word("abcdef", {}), std::nullopt);
}

TEST(NearestWord, IsSilentForWordsTooShortOrAbsurdlyLong) {
  EXPECT_EQ(nearest_word("", {"a", ""}), std::nullopt);
  EXPECT_EQ(nearest_word("a", {"b"}), std::nullopt);
  EXPECT_EQ(nearest_word(std::string(300, 'a'), {std::string(300, 'a')}), std::nullopt);
}

}  // namespace
}  // namespace triphase
