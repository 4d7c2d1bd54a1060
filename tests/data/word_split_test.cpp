// SPDX-License-Identifier: Apache-2.0
#include "data/byte_level.hpp"
#include "data/lower_case_table.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> found;
  word_split().for_each_match(text, [&](std::string_view match) {
    found.emplace_back(match);
    return true;
  });
  return found;
}

using Words = std::vector<std::string>;

/// GPT-2's split keeps every byte, whatever the text: "white space" is Python's, which is
/// Unicode's.
TEST(WordSplit, NothingIsLostAndSpacesGoWithTheWordBehind) {
  EXPECT_EQ(words_of("it's 12 cm,  wide\n\n."),
            (Words{"it", "'s", " 12", " cm", ",", " ", " wide", "\n", "\n", "."}));
  // U+180E is no white space; U+0085 is, U+001C is not in Unicode's list.
  EXPECT_EQ(words_of("a\u180e b"), (Words{"a", "\u180e", " b"}));
  EXPECT_EQ(words_of("a\u0085b"), (Words{"a", "\u0085", "b"}));
  for (const std::string text : {"  ", "a  ", " \t x", "\u00a0\u3000a", "..a..", "'d'D 's"}) {
    std::string joined;
    for (const std::string& word : words_of(text)) joined += word;
    EXPECT_EQ(joined, text);
  }
}

template <class Range>
void expect_ordered(std::span<const Range> ranges) {
  ASSERT_FALSE(ranges.empty());
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_LE(ranges[i].first, ranges[i].last) << i;
    if (i > 0) {
      EXPECT_LT(ranges[i - 1].last, ranges[i].first) << i;
    }
  }
}

TEST(LowerCaseTable, RangesAreOrderedSoThatTheyCanBeSearched) {
  expect_ordered(lower_ranges());
  expect_ordered(cased_ranges());
  expect_ordered(case_ignorable_ranges());
  for (const LowerRange& range : lower_ranges()) {
    EXPECT_GE(range.step, 1U);
    EXPECT_EQ((range.last - range.first) % range.step, 0U) << range.first;
    EXPECT_NE(range.shift, 0);
  }
}

}  // namespace
}  // namespace triphase::data
