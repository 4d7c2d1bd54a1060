// SPDX-License-Identifier: Apache-2.0
#include "dist/benchmark.hpp"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "tests/dist/backends.hpp"

namespace triphase::test {
namespace {

TEST(Benchmark, BandwidthsFollowTheDefinitionsOfNcclTests) {
  run_on_threads(4, [](dist::ProcessGroup& group) {
    const auto timings = dist::bench_collectives(group, {1, 4096, 5000}, 3);
    ASSERT_EQ(timings.size(), 12U);
    for (const dist::CollectiveTiming& timing : timings) {
      EXPECT_GT(timing.seconds, 0);
      EXPECT_EQ(timing.bytes % 16, 0);
      EXPECT_DOUBLE_EQ(timing.algorithm_bandwidth,
                       static_cast<double>(timing.bytes) / timing.seconds);
      const double factor = timing.operation == "all_reduce"  ? 1.5
                            : timing.operation == "broadcast" ? 1
                                                              : 0.75;
      EXPECT_DOUBLE_EQ(timing.bus_bandwidth, factor * timing.algorithm_bandwidth)
          << timing.operation;
    }
    EXPECT_EQ(timings[0].bytes, 16);
    EXPECT_EQ(timings[4].bytes, 4096);
    EXPECT_EQ(timings[8].bytes, 5008);
  });
}

TEST(Benchmark, RanksCopyAtOneSpeed) {
  run_on_threads(2, [](dist::ProcessGroup& group) {
    const double bandwidth = dist::copy_bandwidth(group, 2);
    EXPECT_GT(bandwidth, 1e7);
    EXPECT_LT(bandwidth, 1e13);
    const at::Tensor least = at::full({1}, bandwidth, at::kDouble);
    EXPECT_EQ(group.all_reduce(least, dist::ReduceOp::kMin)->wait().item<double>(), bandwidth);
  });
}

TEST(Benchmark, BothLossesAreTheSameNumber) {
  for (const int n : {1, 3})
    run_on_threads(n, [n](dist::ProcessGroup& group) {
      dist::LossBenchmarkOptions options{.pairs_per_rank = 9, .width = 16, .iterations = 2};
      const dist::LossTiming timing = dist::bench_loss(group, options);
      EXPECT_EQ(timing.global_pairs, 9 * n);
      EXPECT_GT(timing.tiled_seconds, 0);
      EXPECT_GT(timing.dense_seconds, 0);
      EXPECT_NEAR(timing.tiled_loss, timing.dense_loss, 1e-5 * timing.dense_loss);  // float32
      options.with_dense = false;
      const dist::LossTiming alone = dist::bench_loss(group, options);
      EXPECT_EQ(alone.tiled_loss, timing.tiled_loss);
      EXPECT_EQ(alone.dense_seconds, 0);
    });
}

TEST(Benchmark, TheTiledLossTakesLessMemoryThanTheDenseOne) {
  run_on_threads(1, [](dist::ProcessGroup& group) {
    const dist::LossTiming timing = dist::bench_loss(
        group, {.pairs_per_rank = 3000, .width = 16, .tile = 512, .iterations = 1});
    if (timing.tiled_bytes == 0) return;  // the system does not tell
    EXPECT_GT(timing.dense_bytes, 4.0 * 4 * 3000 * 3000 * 0.9);
    EXPECT_LT(timing.tiled_bytes, 0.2 * timing.dense_bytes);
  });
}

}  // namespace
}  // namespace triphase::test
