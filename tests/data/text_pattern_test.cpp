// SPDX-License-Identifier: Apache-2.0
#include "data/text_pattern.hpp"

#include "data/byte_level.hpp"
#include "data/lower_case_table.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

std::vector<std::string> matches(const TextPattern& pattern, std::string_view text) {
  std::vector<std::string> found;
  pattern.for_each_match(text, [&](std::string_view match) {
    found.emplace_back(match);
    return true;
  });
  return found;
}

using Words = std::vector<std::string>;

TEST(TextPattern, MatchesComeFromLeftToRightInWholeCharacters) {
  const TextPattern letters(R"(\p{L}+)");
  EXPECT_EQ(matches(letters, "Größe, 3 mm: 肝!"), (Words{"Größe", "mm", "肝"}));
  EXPECT_EQ(matches(letters, ""), Words{});
  EXPECT_EQ(matches(letters, "123"), Words{});
  EXPECT_EQ(matches(TextPattern("."), "aé肝\U0001f600"), (Words{"a", "é", "肝", "\U0001f600"}));
  EXPECT_EQ(matches(TextPattern("x*"), "axxb"), Words{"xx"}) << "an empty match is none";
}

TEST(TextPattern, StopsWhenItIsTold) {
  int calls = 0;
  TextPattern("[a-z]").for_each_match("abcdef", [&](std::string_view) { return ++calls < 3; });
  EXPECT_EQ(calls, 3);
}

TEST(TextPattern, ABadExpressionIsOurOwnMistake) {
  test::expect_error<InternalError>([] { const TextPattern pattern("a("); }, ExitCode::kInternal,
                                    {"'a('", "does not compile at 2"});
}

/// GPT-2's split keeps every byte, whatever the text: "white space" is Python's, which is
/// Unicode's.
TEST(WordSplit, NothingIsLostAndSpacesGoWithTheWordBehind) {
  EXPECT_EQ(matches(word_split(), "it's 12 cm,  wide\n\n."),
            (Words{"it", "'s", " 12", " cm", ",", " ", " wide", "\n", "\n", "."}));
  // U+180E is no white space; U+0085 is, U+001C is not in Unicode's list.
  EXPECT_EQ(matches(word_split(), "a\u180e b"), (Words{"a", "\u180e", " b"}));
  EXPECT_EQ(matches(word_split(), "a\u0085b"), (Words{"a", "\u0085", "b"}));
  for (const std::string text : {"  ", "a  ", " \t x", "\u00a0\u3000a", "..a..", "'d'D 's"}) {
    std::string joined;
    for (const std::string& word : matches(word_split(), text)) joined += word;
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
