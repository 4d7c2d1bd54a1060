// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/stragglers.hpp"

#include <thread>
#include <vector>

#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

using trainer::OwnSeconds;

std::vector<Json> figures_of(const std::vector<OwnSeconds>& ranks, std::int64_t num_steps) {
  auto groups = dist::make_thread_groups(static_cast<int>(ranks.size()));
  std::vector<Json> figures(ranks.size());
  std::vector<std::jthread> threads;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    threads.emplace_back([&, r] { figures[r] = trainer::straggler_figures(*groups[r], ranks[r], num_steps); });
  threads.clear();  // joins
  return figures;
}

TEST(Stragglers, OfEachPhaseTheMedianAndTheSlowestRankAreNamedOnEveryRank) {
  const std::vector<OwnSeconds> ranks{{.data = 2, .forward = 4, .backward = 8, .optimizer = 1},
                                      {.data = 20, .forward = 5, .backward = 8, .optimizer = 1},
                                      {.data = 3, .forward = 6, .backward = 8, .optimizer = 9}};
  for (const Json& figures : figures_of(ranks, 2)) {
    EXPECT_EQ(figures.at("data"), (Json{{"median", 1.5}, {"max", 10}, {"rank", 1}}));
    EXPECT_EQ(figures.at("forward"), (Json{{"median", 2.5}, {"max", 3}, {"rank", 2}}));
    EXPECT_EQ(figures.at("backward"), (Json{{"median", 4}, {"max", 4}, {"rank", 0}}));
    EXPECT_EQ(figures.at("optimizer"), (Json{{"median", 0.5}, {"max", 4.5}, {"rank", 2}}));
  }
}

TEST(Stragglers, OfAnEvenNumberOfRanksTheMedianLiesBetween) {
  EXPECT_EQ(figures_of({{.data = 1}, {.data = 4}}, 1)[0].at("data"),
            (Json{{"median", 2.5}, {"max", 4}, {"rank", 1}}));
}

TEST(Stragglers, StepsAddUp) {
  OwnSeconds sum{.data = 1, .forward = 2, .backward = 3, .optimizer = 4};
  sum += {.data = 10, .forward = 20, .backward = 30, .optimizer = 40};
  EXPECT_EQ(sum.data, 11);
  EXPECT_EQ(sum.forward, 22);
  EXPECT_EQ(sum.backward, 33);
  EXPECT_EQ(sum.optimizer, 44);
}

}  // namespace
}  // namespace triphase::test
