// SPDX-License-Identifier: Apache-2.0
// Agreement between ranks, on every backend.
#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

using dist::AgreedError;
using dist::ProcessGroup;

TRIPHASE_CONTRACT(AgreeContract);

TEST_P(AgreeContract, NothingHappensWhenAllAreWell) {
  GetParam().run([](ProcessGroup& group) {
    dist::agree(group, std::nullopt);
    int calls = 0;
    dist::agree_on(group, [&] { ++calls; });
    EXPECT_EQ(calls, 1);
  });
}

TEST_P(AgreeContract, AllRanksThrowTheErrorOfTheLowestFailingRank) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    for (int lowest = 0; lowest < n; ++lowest) {
      const int mine = group.rank();
      try {
        dist::agree_on(group, [&] {
          DataError error(str("volume of rank ", mine, " is cut short"), ExitCode::kMissingInput);
          error.add_context("while reading sample 412");
          if (mine >= lowest) throw error;
        });
        ADD_FAILURE() << "nothing was thrown";
      } catch (const AgreedError& error) {
        EXPECT_EQ(error.failing_rank(), lowest);
        EXPECT_EQ(error.kind(), "DataError");
        EXPECT_EQ(error.exit_code(), ExitCode::kMissingInput);
        const std::string prefix = n > 1 ? str("rank ", lowest, " of ", n, ": ") : "";
        EXPECT_EQ(std::string(error.what()), str(prefix, "volume of rank ", lowest,
                                                 " is cut short\n  while reading sample 412"));
      }
    }
  });
}

TEST_P(AgreeContract, AForeignExceptionIsAnInternalErrorOnAllRanks) {
  GetParam().run([](ProcessGroup& group) {
    const auto action = [&] {
      if (group.rank() == group.num_ranks() - 1) throw std::runtime_error("the disk is on fire");
    };
    expect_error<AgreedError>([&] { dist::agree_on(group, action); }, ExitCode::kInternal,
                              {"the disk is on fire"});
  });
}

TEST_P(AgreeContract, EqualTextsAgreeAndDifferentOnesAreNamedWhereTheyDiffer) {
  GetParam().run([](ProcessGroup& group) {
    dist::agree_equal(group, "", "nothing");
    dist::agree_equal(group, "the same", "a text");
    const int n = group.num_ranks();
    if (n == 1) return;
    const std::string common(5000, '.');
    const std::string value = common + (group.rank() == n - 1 ? "strange" : "usual") + common;
    expect_error<AgreedError>(
        [&] { dist::agree_equal(group, value, "the layout"); }, ExitCode::kCommunication,
        {"the layout", "rank 0 has", "usual", str("rank ", n - 1, " has"), "strange"});
    try {
      dist::agree_equal(group, value, "the layout");
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.failing_rank(), n - 1) << "one rank tells";
      EXPECT_EQ(error.kind(), "CommError");
    }
    const std::string as_long = group.rank() == n - 1 ? "strange" : "regular";
    expect_error<AgreedError>([&] { dist::agree_equal(group, as_long, "the word"); },
                              ExitCode::kCommunication, {"'regular'", "'strange'"});
    const std::string longer = group.rank() == n - 1 ? "prefix and more" : "prefix";
    expect_error<AgreedError>([&] { dist::agree_equal(group, longer, "the text"); },
                              ExitCode::kCommunication, {"'prefix'", "'prefix and more'"});
  });
}

TEST_P(AgreeContract, AnyRankIsTrueWhenOneSaysSo) {
  GetParam().run([](ProcessGroup& group) {
    EXPECT_FALSE(dist::any_rank(group, false));
    EXPECT_TRUE(dist::any_rank(group, true));
    for (int r = 0; r < group.num_ranks(); ++r)
      EXPECT_TRUE(dist::any_rank(group, group.rank() == r));
  });
}

TEST_P(AgreeContract, TextOfAnyLengthComesFromItsRoot) {
  GetParam().run([](ProcessGroup& group) {
    for (int root = 0; root < group.num_ranks(); ++root) {
      for (const std::size_t length : {0U, 1U, 5U, 100000U}) {
        const std::string text(length, static_cast<char>('a' + group.rank()));
        EXPECT_EQ(dist::broadcast_text(group, text, root),
                  std::string(length, static_cast<char>('a' + root)));
      }
      const std::string own(static_cast<std::size_t>(group.rank()), 'x');  // lengths differ
      EXPECT_EQ(dist::broadcast_text(group, own, root).size(), static_cast<std::size_t>(root));
    }
    EXPECT_EQ(dist::broadcast_text(group, std::string("a\0b", 3)), std::string("a\0b", 3));
  });
}

TEST_P(AgreeContract, TextsOfAllRanksComeInTheOrderOfTheRanks) {
  GetParam().run([](ProcessGroup& group) {
    std::vector<std::string> mine;
    std::vector<std::string> expected;
    for (int r = 0; r < group.num_ranks(); ++r)
      for (int i = 0; i < r % 3; ++i) {  // the first rank has none
        expected.push_back(str(std::string(static_cast<std::size_t>(i), '\0'), "text of ", r));
        if (r == group.rank()) mine.push_back(expected.back());
      }
    EXPECT_EQ(dist::gather_texts(group, mine), expected);
    EXPECT_TRUE(dist::gather_texts(group, {}).empty());
  });
}

}  // namespace
}  // namespace triphase::test
