// SPDX-License-Identifier: Apache-2.0
// distributed.reduction = "ordered": the same bits at any number of ranks.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

/// Eight pairs a step, four steps, in float32 and on one thread a rank. @return rank 0's record
RunRecord run_on(int num_ranks, const Settings& settings) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  Settings all{{"batch.global_pairs", "8"}, {"batch.micro_pairs", "1"}, {"schedule.max_steps", "4"}};
  for (const auto& [key, value] : settings) all[key] = value;
  const trainer::RunConfig config = tiny_run(folder.path(), all, companions_cache());
  RunRecord record;
  on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
    at::set_num_threads(1);
    RunRecord mine = run_once(config, group);
    if (group.rank() == 0) record = std::move(mine);
  });
  return record;
}

Settings with(Settings settings, const Settings& more) {
  for (const auto& [key, value] : more) settings[key] = value;
  return settings;
}

const Settings kOrdered{{"distributed.reduction", "\"ordered\""}};

TEST(Ordered, EveryNumberOfRanksGivesTheSameBits) {
  const Settings peft{{"adapt.method", "\"peft\""}, {"adapt.image.rank", "2"}, {"adapt.text.rank", "2"}};
  const Settings full{{"adapt.method", "\"full\""}};
  for (const Settings& kind :
       {full, peft, with(full, {{"precision.compute", "\"bfloat16\""}}),
        with(peft, {{"adapt.image.dropout", "0.3"}, {"adapt.text.dropout", "0.3"}}),
        with(full, {{"loss.kind", "\"siglip\""}, {"loss.positives", "\"text\""}}),
        with(peft, {{"loss.negatives", "\"site\""}, {"loss.phenotype_weight", "1.0"}}),
        with(full, {{"batch.micro_pairs", "2"},
                    {"precision.recompute", "\"blocks\""},
                    {"precision.memory_format", "\"channels_last_3d\""},
                    {"distributed.bucket_bytes", "16384"}})}) {
    const Settings settings = with(kind, kOrdered);
    const RunRecord one = run_on(1, settings);
    ASSERT_EQ(one.losses.size(), 4U);
    EXPECT_NE(one.losses.front(), one.losses.back());
    for (const int num_ranks : {2, 4, 8}) {
      if (num_ranks == 8 && settings.contains("batch.micro_pairs")) continue;  // four micro batches
      SCOPED_TRACE(str(num_ranks, " ranks, ", settings.size(), " settings"));
      const RunRecord several = run_on(num_ranks, settings);
      EXPECT_EQ(several.losses, one.losses);
      EXPECT_EQ(several.grad_norms, one.grad_norms);
      expect_same(several.weights, one.weights);
    }
  }
}

/// What the test above would not show if any order of sums gave the same bits; and the losses are
/// those of the usual sums to rounding.
TEST(Ordered, TheUsualSumsDifferInTheLastBitsAlone) {
  const RunRecord one = run_on(1, {});
  const RunRecord two = run_on(2, {});
  const RunRecord ordered = run_on(2, kOrdered);
  EXPECT_NE(one.losses, two.losses);
  for (std::size_t i = 0; i < one.losses.size(); ++i)
    EXPECT_NEAR(ordered.losses[i], one.losses[i], 1e-3 * one.losses[i]) << i;
}

TEST(Ordered, ARunGoesOnAtAnotherNumberOfRanksWithTheSameBits) {
  at::set_num_threads(1);
  const Settings settings = with(kOrdered, {{"batch.global_pairs", "8"},
                                            {"batch.micro_pairs", "1"},
                                            {"schedule.max_steps", "4"},
                                            {"adapt.method", "\"peft\""}});
  const TemporaryFolder whole_folder, parts_folder;
  const auto run = [&](const TemporaryFolder& folder, int num_ranks, std::int64_t stop) {
    RunRecord record;
    on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
      at::set_num_threads(1);
      std::int64_t done = 0;
      trainer::TrainLoopOptions options;
      options.resume = "auto";
      options.on_step = [&](std::int64_t step, const trainer::StepReport&) { done = step; };
      options.stop_requested = [&] { return done >= stop; };
      RunRecord mine = run_once(tiny_run(folder.path(), settings, companions_cache()), group, options);
      if (group.rank() == 0) record = std::move(mine);
    });
    return record;
  };
  const RunRecord whole = run(whole_folder, 1, 100);
  RunRecord parts = run(parts_folder, 4, 2);
  const RunRecord rest = run(parts_folder, 2, 100);
  parts.losses.insert(parts.losses.end(), rest.losses.begin(), rest.losses.end());
  EXPECT_EQ(parts.losses, whole.losses);
  expect_same(rest.weights, whole.weights);
}

}  // namespace
}  // namespace triphase::test
