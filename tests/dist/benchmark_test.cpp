// SPDX-License-Identifier: Apache-2.0
#include "dist/benchmark.hpp"

#include "tests/dist/backends.hpp"

#include <gtest/gtest.h>

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

TEST(Benchmark, BothLossesAreTheSameNumber) {
  for (const int n : {1, 3})
    run_on_threads(n, [n](dist::ProcessGroup& group) {
      const dist::LossTiming timing = dist::bench_loss(group, 9, 16, 2);
      EXPECT_EQ(timing.global_pairs, 9 * n);
      EXPECT_GT(timing.tiled_seconds, 0);
      EXPECT_GT(timing.dense_seconds, 0);
      EXPECT_NEAR(timing.tiled_loss, timing.dense_loss, 1e-5 * timing.dense_loss);  // float32
    });
}

}  // namespace
}  // namespace triphase::test
