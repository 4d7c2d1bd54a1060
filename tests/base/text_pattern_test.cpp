// SPDX-License-Identifier: Apache-2.0
#include "base/text_pattern.hpp"

#include "tests/support/test_support.hpp"

#include <chrono>

namespace triphase {
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

TEST(TextPattern, SearchesAndWholeFitsArePythons) {
  // Pattern, text, re.search, re.fullmatch.
  struct Case {
    const char* pattern;
    const char* text;
    bool found;
    bool whole;
  };
  for (const Case& c :
       {Case{"b", "abc", true, false}, Case{"abc", "abc", true, true}, Case{"", "abc", true, false},
        Case{"", "", true, true}, Case{"a|ab", "ab", true, true}, Case{"a*?", "aaa", true, true},
        Case{"^b", "abc", false, false}, Case{"c$", "abc", true, false},
        Case{R"(\d+)", "layer12", true, false}, Case{R"(\w+)", "Gr\u00f6\u00dfe", true, true},
        Case{"(?P<a>x)(?P=a)", "xx", true, true}, Case{R"(a\.b)", "axb", false, false}}) {
    const TextPattern pattern(c.pattern, PatternOrigin::kGiven);
    EXPECT_EQ(pattern.is_found_in(c.text), c.found) << c.pattern << " in " << c.text;
    EXPECT_EQ(pattern.fits_whole(c.text), c.whole) << c.pattern << " over " << c.text;
  }
}

TEST(TextPattern, ABadExpressionIsOurOwnMistakeOrTheGiversOwn) {
  test::expect_error<InternalError>([] { const TextPattern pattern("a("); }, ExitCode::kInternal,
                                    {"'a('", "no regular expression", "at 2"});
  for (const std::string bad :
       {"a(", "[z-a]", "*a", "(?<n>a)(?<n>b)", "\\C", "(?1)", "\xff", "a{2,1}"})
    test::expect_error<ConfigError>([&] { const TextPattern pattern(bad, PatternOrigin::kGiven); },
                                    ExitCode::kUsage, {"no regular expression"});
}

/// Every hostile pattern ends within a moment, as a match, as none, or as an error that says what
/// to do.
TEST(TextPattern, HostilePatternsAreRefusedSoon) {
  const std::string path = "encode_text." + std::string(4000, 'a') + "!";
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string hostile :
       {"(a+)+$", "(a*)*b", "(a|aa)+$", "(.*a){20}b", "^(([a-z])+.)+[A-Z]$", "(a?){40}a{40}b",
        "((a{0,60}){0,60}){0,60}c", "(?R)?a(?R)?b", "(?:(?=(a+))a*)*b"})
    for (const bool whole : {false, true}) {
      try {
        const TextPattern pattern(hostile, PatternOrigin::kGiven);
        EXPECT_FALSE(whole ? pattern.fits_whole(path) : pattern.is_found_in(path)) << hostile;
      } catch (const ConfigError& error) {
        EXPECT_NE(error.message().find(hostile), std::string::npos) << error.message();
      }
    }
  test::expect_error<ConfigError>(
      [&] { (void)TextPattern("(a+)+$", PatternOrigin::kGiven).is_found_in(path); },
      ExitCode::kUsage, {"'(a+)+$'", "limit", "simpler"});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count(),
            20.0);  // a machine that is busy; without limits the first would outlast us all
}

/// Work between our limit and the library's own, which is twenty times as high.
TEST(TextPattern, AMatchMayTakeHalfAMillionSteps) {
  const auto ways = [](std::size_t letters) { return std::string(letters, 'a') + "!"; };
  const TextPattern pattern("^(a|aa)+$", PatternOrigin::kGiven);
  EXPECT_FALSE(pattern.is_found_in(ways(20)));
  EXPECT_THROW((void)pattern.is_found_in(ways(28)), ConfigError);
  EXPECT_FALSE(TextPattern("^(a|aa)+$").is_found_in(ways(28))) << "the program's own may take more";
}

TEST(TextPattern, LongAndDeepPatternsAreRefusedOrServed) {
  const auto refused = [](const std::string& pattern, std::initializer_list<std::string> words) {
    test::expect_error<ConfigError>([&] { const TextPattern made(pattern, PatternOrigin::kGiven); },
                                    ExitCode::kUsage, words);
  };
  refused(std::string(1 << 20, 'a'), {"1048576 bytes", "65536"});
  refused(std::string(1 << 20, '('), {"1048576 bytes"});
  refused(std::string(1 << 14, '(') + std::string(1 << 14, ')'), {"no regular expression"});
  refused("(a{1,60000}){1,60000}", {"no regular expression"});
  // The message shows the beginning, not the whole.
  try {
    const TextPattern pattern(std::string(1 << 20, 'a'), PatternOrigin::kGiven);
  } catch (const ConfigError& error) {
    EXPECT_LT(error.message().size(), 400U);
  }
  std::string names = "layer0";  // as long as a list of every module's name
  for (int i = 1; i < 2000; ++i) names += "|layer" + std::to_string(i);
  const TextPattern pattern(names, PatternOrigin::kGiven);
  EXPECT_TRUE(pattern.fits_whole("layer1999"));
  EXPECT_FALSE(pattern.fits_whole("layer2000"));
}

TEST(TextPattern, ATextThatIsNotUtf8IsNoMatchButAnError) {
  const TextPattern pattern("a", PatternOrigin::kGiven);
  EXPECT_THROW((void)pattern.is_found_in("\xff"), ConfigError);
}

}  // namespace
}  // namespace triphase
