// SPDX-License-Identifier: Apache-2.0
#include "data/epoch_plan.hpp"

#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "base/random.hpp"
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

// --- samplers ---

using Mode = SamplerOptions::Mode;

/// Groups of random sizes in random order, with one that is much larger than the others.
std::vector<std::int64_t> uneven_groups(std::int64_t num_samples, std::int64_t num_groups,
                                        std::uint64_t seed) {
  KeyedRandom random{seed};
  std::vector<std::int64_t> groups;
  for (std::int64_t i = 0; i < num_samples; ++i)
    groups.push_back(i < num_groups         ? i
                     : random.chance(0.25) ? 0
                                           : static_cast<std::int64_t>(random.below(
                                                 static_cast<std::uint64_t>(num_groups))));
  return groups;
}

EpochPlanOptions sampler_options(Mode mode, std::int64_t num_samples, std::int64_t num_groups,
                                 std::int64_t global_pairs, double power = 1) {
  EpochPlanOptions o;
  o.num_samples = num_samples;
  o.global_pairs = global_pairs;
  o.seed = 5;
  o.sampler = {.mode = mode, .site_power = power};
  o.groups = uneven_groups(num_samples, num_groups, 3);
  return o;
}

struct SamplerCase {
  Mode mode;
  std::int64_t num_samples, num_groups, global_pairs;
  double power;
};
std::vector<SamplerCase> sampler_cases() {
  std::vector<SamplerCase> cases;
  for (const std::int64_t n : {60, 61, 500})
    for (const std::int64_t pairs : {6, 12, 24}) {
      cases.push_back({Mode::kPatientDistinct, n, 45, pairs, 1});
      cases.push_back({Mode::kPatientDistinct, n, n, pairs, 1});
      for (const double power : {0.0, 0.5, 1.0}) cases.push_back({Mode::kBySite, n, 4, pairs, power});
    }
  return cases;
}

/// The sampler's order for one rank.
std::vector<std::int64_t> order_of(EpochPlanOptions o) {
  o.num_ranks = 1;
  o.rank = 0;
  return plan_epoch(o);
}

TEST(Sampler, NoSampleIsTwiceInABatchAndEveryStepIsFull) {
  for (const SamplerCase& c : sampler_cases()) {
    SCOPED_TRACE(str(c.num_samples, " ", c.num_groups, " ", c.global_pairs, " ", c.power));
    EpochPlanOptions o = sampler_options(c.mode, c.num_samples, c.num_groups, c.global_pairs, c.power);
    const std::int64_t steps = steps_per_epoch(o);
    for (o.epoch = 0; o.epoch < 3; ++o.epoch) {
      const auto order = order_of(o);
      ASSERT_EQ(static_cast<std::int64_t>(order.size()), steps * c.global_pairs);
      EXPECT_EQ(order, order_of(o));
      for (auto begin = order.begin(); begin != order.end(); begin += c.global_pairs) {
        const std::set<std::int64_t> batch(begin, begin + c.global_pairs);
        EXPECT_EQ(static_cast<std::int64_t>(batch.size()), c.global_pairs);
        EXPECT_GE(*batch.begin(), 0);
        EXPECT_LT(*batch.rbegin(), c.num_samples);
      }
    }
    EpochPlanOptions other = o;
    other.seed = 6;
    EXPECT_NE(order_of(o), order_of(other));
    other = o;
    ++other.epoch;
    EXPECT_NE(order_of(o), order_of(other));
  }
}

TEST(Sampler, TheGlobalBatchIsTheSameForEveryNumberOfRanks) {
  for (const SamplerCase& c : sampler_cases()) {
    EpochPlanOptions o = sampler_options(c.mode, c.num_samples, c.num_groups, c.global_pairs, c.power);
    const auto expected = order_of(o);
    for (o.num_ranks = 2; o.num_ranks <= 3; ++o.num_ranks) {
      const std::int64_t pairs = o.global_pairs / o.num_ranks;
      std::vector<std::int64_t> joined(expected.size());
      for (o.rank = 0; o.rank < o.num_ranks; ++o.rank) {
        const auto mine = plan_epoch(o);
        for (std::size_t i = 0; i < mine.size(); ++i) {
          const auto k = static_cast<std::int64_t>(i);
          joined.at(static_cast<std::size_t>(k / pairs * o.global_pairs + o.rank * pairs +
                                             k % pairs)) = mine[i];
        }
      }
      EXPECT_EQ(joined, expected);
    }
  }
}

TEST(Sampler, PatientsAreApartAndAsManyStepsAreMadeAsThereCanBe) {
  for (const SamplerCase& c : sampler_cases()) {
    if (c.mode != Mode::kPatientDistinct) continue;
    const EpochPlanOptions o = sampler_options(c.mode, c.num_samples, c.num_groups, c.global_pairs);
    const auto order = order_of(o);
    const std::set<std::int64_t> distinct(order.begin(), order.end());
    EXPECT_EQ(distinct.size(), order.size()) << "no sample twice in an epoch";
    for (auto begin = order.begin(); begin != order.end(); begin += c.global_pairs) {
      std::set<std::int64_t> patients;
      for (auto at = begin; at != begin + c.global_pairs; ++at)
        patients.insert(o.groups[static_cast<std::size_t>(*at)]);
      EXPECT_EQ(static_cast<std::int64_t>(patients.size()), c.global_pairs);
    }
    // One step more would need more places than the patients have samples for.
    const std::int64_t steps = steps_per_epoch(o) + 1;
    std::map<std::int64_t, std::int64_t> counts;
    for (const std::int64_t group : o.groups) ++counts[group];
    std::int64_t places = 0;
    for (const auto& [group, count] : counts) places += std::min(count, steps);
    EXPECT_LT(places, steps * c.global_pairs);
  }
}

TEST(Sampler, EveryPatientsSamplesComeUpInSomeEpoch) {
  EpochPlanOptions o = sampler_options(Mode::kPatientDistinct, 61, 20, 12);
  std::set<std::int64_t> seen;
  for (o.epoch = 0; o.epoch < 60; ++o.epoch)
    for (const std::int64_t sample : order_of(o)) seen.insert(sample);
  EXPECT_EQ(seen.size(), 61U);
}

TEST(Sampler, EachSiteHasItsShareOfEveryBatch) {
  for (const SamplerCase& c : sampler_cases()) {
    if (c.mode != Mode::kBySite) continue;
    SCOPED_TRACE(str(c.num_samples, " ", c.global_pairs, " ", c.power));
    const EpochPlanOptions o =
        sampler_options(c.mode, c.num_samples, c.num_groups, c.global_pairs, c.power);
    std::vector<double> share(4, 0);
    for (const std::int64_t site : o.groups) ++share[static_cast<std::size_t>(site)];
    double sum = 0;
    for (double& s : share) sum += s = std::pow(s, c.power);
    const auto order = order_of(o);
    std::vector<double> taken(4, 0);
    for (std::size_t i = 0; i < order.size(); ++i) {
      ++taken[static_cast<std::size_t>(o.groups[static_cast<std::size_t>(order[i])])];
      if ((i + 1) % static_cast<std::size_t>(c.global_pairs) != 0) continue;
      for (std::size_t s = 0; s < 4; ++s) {  // after each step
        const double ahead = taken[s] - share[s] / sum * static_cast<double>(i + 1);
        EXPECT_LT(ahead, 1) << "step's end " << i;
        EXPECT_GT(ahead, -3) << "step's end " << i;
      }
    }
    if (c.power == 1) {
      EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), order.size())
          << "in proportion to size no sample is read twice";
    }
  }
}

TEST(Sampler, WhatCannotBeIsRefused) {
  EpochPlanOptions o = sampler_options(Mode::kPatientDistinct, 60, 5, 6);
  test::expect_error<ConfigError>([&] { static_cast<void>(plan_epoch(o)); }, ExitCode::kUsage,
                                  {"5 patients", "global batch of 6", "data.sampler"});
  o = sampler_options(Mode::kBySite, 40, 2, 20, 0);
  o.groups.assign(40, 0);
  o.groups[7] = 1;  // a site of one sample, whose equal share would be ten
  test::expect_error<ConfigError>([&] { static_cast<void>(steps_per_epoch(o)); }, ExitCode::kUsage,
                                  {"a site has 1 samples", "is 10", "data.site_quota"});
  o.groups.pop_back();
  EXPECT_THROW(static_cast<void>(plan_epoch(o)), InternalError);
}

}  // namespace
}  // namespace triphase::data
