// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_data.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <type_traits>

#include "dist/node_group.hpp"
#include "dist/runtime.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/loop/stage_data.hpp"

namespace triphase::test {
namespace {

using Batches = std::vector<data::Batch>;

struct DataBench {
  explicit DataBench(const Settings& changes = {}, const TinyCache& cache = tiny_cache())
      : config(tiny_run("unused", changes, cache)),
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

/// Ids agree exactly where the values do, and somewhere two samples agree that are no neighbours.
template <class Value>
void expect_ids_of(const at::Tensor& ids, const std::vector<Value>& values) {
  ASSERT_EQ(ids.numel(), std::ssize(values));
  const std::int64_t* id = ids.const_data_ptr<std::int64_t>();
  std::int64_t num_companions = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_EQ(id[i] == id[j], values[i] == values[j]) << i << " " << j;
      if (id[i] == id[j]) ++num_companions;
    }
  EXPECT_GT(num_companions, 0);
}

TEST(OpenEpoch, IdsTravelWithTheBatchAndAreEqualWhereTheSamplesBelongTogether) {
  const auto joined = [](const DataBench& bench, int num_ranks, at::Tensor data::Batch::* ids) {
    std::vector<at::Tensor> parts;
    std::vector<std::int64_t> samples;
    for (int rank = 0; rank < num_ranks; ++rank)
      for (const data::Batch& batch : bench.batches({.rank = rank, .num_ranks = num_ranks})) {
        EXPECT_TRUE((batch.*ids).defined());
        parts.push_back(batch.*ids);
        for (const std::int64_t sample : indices(batch)) samples.push_back(sample);
      }
    return std::pair(at::cat(parts), samples);
  };
  const auto values = [](const DataBench& bench, const std::vector<std::int64_t>& samples,
                         auto data::CacheEntry::* member) {
    std::vector<std::decay_t<decltype(data::CacheEntry{}.*member)>> result;
    for (const std::int64_t sample : samples)
      result.push_back(bench.data.cache->entries()[static_cast<std::size_t>(sample)].*member);
    return result;
  };
  for (const int num_ranks : {1, 2, 3}) {
    const DataBench patient({{"loss.positives", "\"patient\""}}, companions_cache());
    auto [ids, samples] = joined(patient, num_ranks, &data::Batch::positive_ids);
    expect_ids_of(ids, values(patient, samples, &data::CacheEntry::patient_id));
    const DataBench text({{"loss.positives", "\"text\""},
                          {"data.augment.text_drop", "1"}},  // the report counts, not what is left
                         companions_cache());
    std::tie(ids, samples) = joined(text, num_ranks, &data::Batch::positive_ids);
    expect_ids_of(ids, values(text, samples, &data::CacheEntry::tokens));
    const DataBench site({{"loss.negatives", "\"site\""}}, companions_cache());
    std::tie(ids, samples) = joined(site, num_ranks, &data::Batch::negative_ids);
    expect_ids_of(ids, values(site, samples, &data::CacheEntry::site));
    EXPECT_FALSE(site.batches({})[0].positive_ids.defined());
  }
}

/// The member of each sample of each global batch, the ranks' parts joined.
std::vector<std::vector<std::string>> global_batches(const DataBench& bench, int num_ranks, std::int64_t epoch,
                                                     std::string data::CacheEntry::* member) {
  std::vector<std::vector<std::string>> joined;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Batches part = bench.batches({.epoch = epoch, .rank = rank, .num_ranks = num_ranks});
    joined.resize(part.size());
    for (std::size_t step = 0; step < part.size(); ++step)
      for (const std::int64_t sample : indices(part[step]))
        joined[step].push_back(bench.data.cache->entries()[static_cast<std::size_t>(sample)].*member);
  }
  return joined;
}

TEST(OpenEpoch, ASamplerKeepsPatientsApartAndGivesSitesTheirShare) {
  const DataBench patients({{"data.sampler", "\"patient_distinct\""}}, companions_cache());
  const DataBench sites({{"data.sampler", "\"by_site\""}, {"data.site_quota", "\"balanced\""}});
  for (const DataBench* bench : {&patients, &sites})
    EXPECT_EQ(trainer::steps_per_epoch(bench->data, bench->config), 3);
  for (const int num_ranks : {1, 2, 3})
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      auto batches = global_batches(patients, num_ranks, epoch, &data::CacheEntry::patient_id);
      EXPECT_EQ(batches.size(), 3U);
      for (const auto& batch : batches)
        EXPECT_EQ(std::set<std::string>(batch.begin(), batch.end()).size(), 6U);
      batches = global_batches(sites, num_ranks, epoch, &data::CacheEntry::site);
      EXPECT_EQ(batches.size(), 3U);
      for (const auto& batch : batches)  // of the 18 samples 4 are from the north
        EXPECT_EQ(std::count(batch.begin(), batch.end(), "north"), 3);
    }
  expect_error<ConfigError>(
      [&] {
        const DataBench few({{"data.sampler", "\"patient_distinct\""}, {"batch.global_pairs", "10"}},
                            companions_cache());
        static_cast<void>(trainer::steps_per_epoch(few.data, few.config));
      },
      ExitCode::kUsage, {"9 patients", "batch.global_pairs"});
}

TEST(StageData, RanksReadTheCopiesThatOneOfThemMade) {
  const TinyCache cache;
  const TemporaryFolder folder;
  const Settings unstaged{{"run.name", "\"unstaged\""}};
  const Settings staged{{"data.staging_dir", "\"" + (folder / "scratch").string() + "\""}};
  const auto self = dist::make_self_group();
  const RunRecord expected = run_once(tiny_run(folder.path(), unstaged, cache), *self);
  on_thread_ranks(3, [&](dist::ProcessGroup& group) {
    const trainer::RunConfig config = tiny_run(folder.path(), staged, cache);
    const auto node = dist::make_node_group(group);
    Logger log({.rank = group.rank(), .num_ranks = group.num_ranks()});
    const std::filesystem::path copies = trainer::stage_on_nodes(config, group, *node, log);
    EXPECT_EQ(copies.parent_path(), folder / "scratch");
    EXPECT_TRUE(std::filesystem::exists(copies / "shard-00001.h5")) << "the others waited for them";
  });
  for (const char* shard : {"shard-00000.h5", "shard-00001.h5"}) std::filesystem::remove(cache.cache() / shard);
  const RunRecord record = run_once(tiny_run(folder.path(), staged, cache), *self);
  EXPECT_EQ(record.losses, expected.losses);
  expect_same(record.weights, expected.weights);
}

TEST(StageData, AFolderThatCannotBeUsedIsNoReasonToStop) {
  const TemporaryFolder folder;
  write_text(folder / "scratch", "a file");
  on_thread_ranks(2, [&](dist::ProcessGroup& group) {
    const Settings changes{{"data.staging_dir", "\"" + (folder / "scratch").string() + "\""}};
    const trainer::RunConfig config = tiny_run(folder.path(), changes);
    const auto node = dist::make_node_group(group);
    Logger log({.rank = group.rank(), .num_ranks = group.num_ranks(), .quiet = true, .file = folder / str("log", group.rank())});
    const std::filesystem::path copies = trainer::stage_on_nodes(config, group, *node, log);
    EXPECT_EQ(trainer::open_train_data(config, models::model_preset("merlin_tiny"), copies).train.size(), 18U);
  });
  EXPECT_NE(read_text(folder / "log0").find("2 of 2 shards are read from"), std::string::npos);
  EXPECT_EQ(read_text(folder / "log1").find("warning"), std::string::npos) << "one rank tells";
}

/// The tokens of each sample in an epoch, without padding.
std::map<std::int64_t, std::vector<std::int64_t>> texts_of(const Batches& batches) {
  std::map<std::int64_t, std::vector<std::int64_t>> texts;
  for (const data::Batch& batch : batches) {
    const std::vector<std::int64_t> samples = indices(batch);
    for (std::size_t row = 0; row < samples.size(); ++row) {
      const auto at = static_cast<std::int64_t>(row);
      const std::int64_t length = batch.mask[at].sum().item<std::int64_t>();
      const at::Tensor tokens = batch.tokens[at].slice(0, 0, length).contiguous();
      const std::int64_t* first = tokens.const_data_ptr<std::int64_t>();
      texts[samples[row]] = {first, first + length};
    }
  }
  return texts;
}

TEST(OpenEpoch, ShuffledPairsGiveEachImageAnothersReportInEveryEpochAndOnAnyRanks) {
  const Settings shuffled{{"data.pairs", "\"shuffled\""}};
  const DataBench own;
  const DataBench bench(shuffled);
  const auto texts = texts_of(bench.batches({.epoch = 0}));
  const auto expected = texts_of(own.batches({.epoch = 0}));
  ASSERT_EQ(texts.size(), 18U);
  std::multiset<std::vector<std::int64_t>> given;
  std::multiset<std::vector<std::int64_t>> whole;
  std::size_t num_others = 0;
  for (const auto& [sample, tokens] : texts) {
    given.insert(tokens);
    whole.insert(expected.at(sample));
    if (tokens != expected.at(sample)) ++num_others;
  }
  EXPECT_EQ(given, whole) << "each report once";
  EXPECT_GE(num_others, 9U) << "but for reports in the same words";
  std::set<std::size_t> places;
  for (std::size_t i = 0; i < bench.data.shuffled->tokens.size(); ++i)
    if (!bench.data.shuffled->tokens[i].empty()) places.insert(i);
  EXPECT_EQ(places, std::set<std::size_t>(bench.data.train.begin(), bench.data.train.end()));
  EXPECT_EQ(texts_of(bench.batches({.epoch = 3})), texts);
  auto on_ranks = texts_of(bench.batches({.epoch = 1, .rank = 0, .num_ranks = 2}));
  on_ranks.merge(texts_of(bench.batches({.epoch = 1, .rank = 1, .num_ranks = 2})));
  EXPECT_EQ(on_ranks, texts);
  Settings other = shuffled;
  other["run.seed"] = "8";
  EXPECT_NE(texts_of(DataBench(other).batches({.epoch = 0})), texts);
  for (const char* excluded : {"data.report_sections", "loss.positives"})
    expect_error<ConfigError>(
        [&] {
          Settings both = shuffled;
          both[excluded] = excluded[0] == 'd' ? "\"alternate\"" : "\"patient\"";
          static_cast<void>(tiny_run("unused", both));
        },
        ExitCode::kUsage, {"data.pairs", "'shuffled'"});
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
