// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_data.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

using Batches = std::vector<data::Batch>;

struct DataBench {
  explicit DataBench(const Settings& changes = {})
      : config(tiny_run("unused", changes)),
        data(trainer::open_train_data(config, models::model_preset("merlin_tiny"))) {}
  Batches batches(const trainer::EpochPosition& position) const {
    Batches all;
    const auto loader = trainer::open_epoch(data, config, position);
    while (auto batch = loader->next()) all.push_back(std::move(*batch));
    return all;
  }
  trainer::RunConfig config;
  trainer::TrainData data;
};

std::vector<std::int64_t> indices(const data::Batch& batch) {
  const at::Tensor index = batch.index.contiguous();
  const std::int64_t* first = index.const_data_ptr<std::int64_t>();
  return {first, first + index.numel()};
}

TEST(OpenEpoch, RanksShareEachStepOfOneRankAndReadNoSampleTwice) {
  const DataBench bench;
  const Batches whole = bench.batches({.epoch = 2});
  ASSERT_EQ(whole.size(), 3U);
  for (const int num_ranks : {2, 3, 6}) {
    std::vector<Batches> parts;
    for (int rank = 0; rank < num_ranks; ++rank)
      parts.push_back(bench.batches({.epoch = 2, .rank = rank, .num_ranks = num_ranks}));
    std::set<std::int64_t> seen;
    for (std::size_t step = 0; step < whole.size(); ++step) {
      std::vector<std::int64_t> joined;
      for (const Batches& part : parts) {
        ASSERT_EQ(part.size(), whole.size());
        const std::vector<std::int64_t> own = indices(part[step]);
        joined.insert(joined.end(), own.begin(), own.end());
      }
      seen.insert(joined.begin(), joined.end());
      std::vector<std::int64_t> expected = indices(whole[step]);
      std::sort(joined.begin(), joined.end());
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ(joined, expected) << num_ranks << " ranks, step " << step;
    }
    EXPECT_EQ(seen.size(), 18U);
    for (const std::int64_t sample : seen)
      EXPECT_EQ(bench.data.cache->entries()[static_cast<std::size_t>(sample)].split, "train");
  }
}

TEST(OpenEpoch, TheRestOfAnEpochIsItsTailToTheBit) {
  const DataBench bench({{"data.augment.shift_voxels", "2"},
                         {"data.augment.noise_sigma", "0.2"},
                         {"data.augment.text_drop", "0.5"},
                         {"data.workers", "2"}});
  for (const int num_ranks : {1, 2}) {
    const Batches whole =
        bench.batches({.epoch = 1, .rank = num_ranks - 1, .num_ranks = num_ranks});
    for (std::int64_t done = 0; done <= 3; ++done) {
      const Batches rest = bench.batches(
          {.epoch = 1, .step_in_epoch = done, .rank = num_ranks - 1, .num_ranks = num_ranks});
      ASSERT_EQ(rest.size(), static_cast<std::size_t>(3 - done));
      for (std::size_t i = 0; i < rest.size(); ++i) {
        const data::Batch& expected = whole[i + static_cast<std::size_t>(done)];
        EXPECT_EQ(indices(rest[i]), indices(expected));
        EXPECT_TRUE(at::equal(rest[i].volumes, expected.volumes));
        EXPECT_TRUE(at::equal(rest[i].tokens, expected.tokens));
        EXPECT_TRUE(at::equal(rest[i].mask, expected.mask));
      }
    }
  }
}

TEST(OpenEpoch, EveryEpochAndSeedHasAnOrderOfItsOwn) {
  std::set<std::vector<std::int64_t>> orders;
  for (const std::string seed : {"1", "2"}) {
    const Settings changes{{"run.seed", seed}};
    const DataBench bench(changes);
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      std::vector<std::int64_t> order;
      for (const data::Batch& batch : bench.batches({.epoch = epoch}))
        for (const std::int64_t sample : indices(batch)) order.push_back(sample);
      orders.insert(order);
    }
  }
  EXPECT_EQ(orders.size(), 8U);
}

TEST(OpenTrainData, KeepsToSplitsAndSites) {
  const DataBench all;
  EXPECT_EQ(all.data.train.size(), 18U);
  EXPECT_EQ(all.data.validation.size(), 8U);
  const DataBench north({{"data.sites", "[\"north\"]"}, {"batch.global_pairs", "2"}});
  EXPECT_EQ(north.data.train, (std::vector<std::int64_t>{0, 5, 10, 15}));
  EXPECT_EQ(north.data.validation, (std::vector<std::int64_t>{20, 25}));
  const Settings never{{"evaluate.every_epochs", "0"}};
  EXPECT_TRUE(DataBench(never).data.validation.empty());
}

}  // namespace
}  // namespace triphase::test
