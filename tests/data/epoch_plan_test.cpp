// SPDX-License-Identifier: Apache-2.0
#include "data/epoch_plan.hpp"

#include <set>
#include <tuple>

#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using Sweep = std::tuple<std::int64_t, int, std::int64_t>;  // samples, ranks, pairs per rank

class EpochPlanSweep : public ::testing::TestWithParam<Sweep> {
 protected:
  [[nodiscard]] EpochPlanOptions options() const {
    const auto [samples, ranks, pairs] = GetParam();
    return {.num_samples = samples, .global_pairs = ranks * pairs, .num_ranks = ranks, .seed = 7};
  }
};

TEST_P(EpochPlanSweep, NoSampleIsReadTwiceAndOnlyTheTailIsLeftOut) {
  EpochPlanOptions o = options();
  std::multiset<std::int64_t> seen;
  for (o.rank = 0; o.rank < o.num_ranks; ++o.rank) {
    const auto mine = plan_epoch(o);
    EXPECT_EQ(static_cast<std::int64_t>(mine.size()),
              steps_per_epoch(o.num_samples, o.global_pairs) * o.global_pairs / o.num_ranks);
    seen.insert(mine.begin(), mine.end());
  }
  const std::set<std::int64_t> distinct(seen.begin(), seen.end());
  EXPECT_EQ(distinct.size(), seen.size());
  EXPECT_EQ(static_cast<std::int64_t>(seen.size()), o.num_samples - o.num_samples % o.global_pairs);
  EXPECT_GE(*distinct.begin(), 0);
  EXPECT_LT(*distinct.rbegin(), o.num_samples);
}

TEST_P(EpochPlanSweep, TheGlobalBatchInRankOrderIsTheSameOnOneRank) {
  EpochPlanOptions o = options();
  EpochPlanOptions alone = o;
  alone.num_ranks = 1;
  const auto expected = plan_epoch(alone);
  const std::int64_t pairs = o.global_pairs / o.num_ranks;
  std::vector<std::int64_t> joined(expected.size());
  for (o.rank = 0; o.rank < o.num_ranks; ++o.rank) {
    const auto mine = plan_epoch(o);
    for (std::size_t i = 0; i < mine.size(); ++i) {
      const auto step = static_cast<std::int64_t>(i) / pairs;
      const auto place =
          step * o.global_pairs + o.rank * pairs + static_cast<std::int64_t>(i) % pairs;
      joined.at(static_cast<std::size_t>(place)) = mine[i];
    }
  }
  EXPECT_EQ(joined, expected);
}

INSTANTIATE_TEST_SUITE_P(Sizes, EpochPlanSweep,
                         ::testing::Combine(::testing::Values(24, 25, 1000),
                                            ::testing::Values(1, 2, 3, 8),
                                            ::testing::Values(1, 2, 3)));

TEST(EpochPlan, SeedAndEpochDecideTheOrder) {
  const EpochPlanOptions base{.num_samples = 100, .global_pairs = 10, .seed = 1, .epoch = 3};
  EpochPlanOptions other_epoch = base, other_seed = base;
  other_epoch.epoch = 4;
  other_seed.seed = 2;
  EXPECT_EQ(plan_epoch(base), plan_epoch(base));
  EXPECT_NE(plan_epoch(base), plan_epoch(other_epoch));
  EXPECT_NE(plan_epoch(base), plan_epoch(other_seed));
}

TEST(EpochPlan, AnotherEpochLeavesOutOtherSamples) {
  std::set<std::vector<std::int64_t>> left_out;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    const auto order = plan_epoch({.num_samples = 25, .global_pairs = 8, .epoch = epoch});
    std::vector<std::int64_t> missing;
    for (std::int64_t i = 0; i < 25; ++i)
      if (std::find(order.begin(), order.end(), i) == order.end()) missing.push_back(i);
    left_out.insert(missing);
  }
  EXPECT_GT(left_out.size(), 10U);
}

TEST(EpochPlan, EverySampleComesToEveryPlaceEquallyOften) {
  constexpr std::int64_t kSamples = 10, kEpochs = 4000;
  std::vector<std::vector<double>> count(kSamples, std::vector<double>(kSamples, 0));
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order =
        plan_epoch({.num_samples = kSamples, .global_pairs = 5, .seed = 11, .epoch = epoch});
    for (std::size_t i = 0; i < order.size(); ++i)
      count[i][static_cast<std::size_t>(order[i])] += 1;
  }
  double chi_square = 0;
  const double expected = static_cast<double>(kEpochs) / kSamples;
  for (const auto& row : count)
    for (const double c : row) chi_square += (c - expected) * (c - expected) / expected;
  // 81 degrees of freedom: mean 81, standard deviation 12.7; five of them on either side.
  EXPECT_LT(chi_square, 145);
  EXPECT_GT(chi_square, 25);
}

TEST(EpochPlan, TheOrderOfAKeyNeverChanges) {
  // A change here breaks the promise that a run resumes with the batches it would have had.
  const auto order = plan_epoch({.num_samples = 8, .global_pairs = 4, .seed = 5, .epoch = 2});
  EXPECT_EQ(order, (std::vector<std::int64_t>{7, 5, 1, 3, 0, 2, 4, 6}));
}

TEST(EpochPlan, RefusesWhatCannotBePlanned) {
  const auto plan = [](EpochPlanOptions o) { return [o] { static_cast<void>(plan_epoch(o)); }; };
  const auto refused = [&](EpochPlanOptions o, std::initializer_list<std::string> words) {
    test::expect_error<ConfigError>(plan(o), ExitCode::kUsage, words);
  };
  refused({.num_samples = 7, .global_pairs = 8}, {"7 samples", "8", "batch.global_pairs"});
  refused({.num_samples = 0, .global_pairs = 8}, {"0 samples"});
  refused({.num_samples = 9, .global_pairs = 8, .num_ranks = 3}, {"8", "multiple of the 3 ranks"});
  refused({.num_samples = 9, .global_pairs = 0}, {"batch.global_pairs is 0"});
  refused({.num_samples = 9, .global_pairs = 8, .rank = 2, .num_ranks = 2}, {"rank is 2"});
  refused({.num_samples = 9, .global_pairs = 8, .rank = -1, .num_ranks = 2}, {"rank is -1"});
  refused({.num_samples = 9, .global_pairs = 8, .num_ranks = 0}, {"ranks is 0"});
  refused({.num_samples = 9, .global_pairs = 8, .epoch = -1}, {"epoch is -1"});
  EXPECT_THROW(static_cast<void>(steps_per_epoch(5, 0)), ConfigError);
  EXPECT_EQ(steps_per_epoch(25, 8), 3);
}

}  // namespace
}  // namespace triphase::data
