// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/schedule.hpp"

#include <cmath>

#include "tests/support/test_support.hpp"

namespace triphase::trainer {
namespace {

TEST(Schedule, RisesToOneThenFallsWithoutJumps) {
  for (const std::string kind : {"cosine", "linear", "constant"}) {
    for (const std::int64_t warmup : {0, 1, 2, 10, 40}) {
      for (const std::int64_t total : {40, 41, 1000}) {
        ScheduleOptions options;
        options.kind = kind;
        options.warmup_steps = warmup;
        const double largest_jump = std::max(
            1.0 / static_cast<double>(std::max<std::int64_t>(warmup, 1)),
            1.6 / static_cast<double>(std::max<std::int64_t>(total - warmup, 1)));  // > pi/2
        double before = 0;
        for (std::int64_t step = 0; step < total; ++step) {
          const double factor = lr_factor(options, step, total);
          EXPECT_GT(factor, 0) << kind << " " << step;
          EXPECT_LE(factor, 1) << kind << " " << step;
          if (step > 0) {
            EXPECT_LE(std::abs(factor - before), largest_jump + 1e-12) << kind << " " << step;
          }
          EXPECT_TRUE(step < warmup ? factor >= before : step == warmup || factor <= before);
          if (step == warmup || step + 1 == warmup) {
            EXPECT_DOUBLE_EQ(factor, 1);
          }
          before = factor;
        }
      }
    }
  }
}

TEST(Schedule, CosineHasTheReferencesValues) {
  ScheduleOptions options;
  options.warmup_steps = 5;
  for (std::int64_t i = 0; i < 20; ++i) {
    const double expected = i < 5 ? static_cast<double>(i + 1) / 5
                                  : 0.5 * (1 + std::cos(M_PI * static_cast<double>(i - 5) / 15));
    EXPECT_NEAR(lr_factor(options, i, 20), expected, 1e-15);
  }
}

TEST(Schedule, LengthIsGivenInStepsOrEpochs) {
  ScheduleOptions options;
  options.max_epochs = 3;
  EXPECT_EQ(total_steps(options, 7), 21);
  options = {};
  options.max_steps = 5;
  EXPECT_EQ(total_steps(options, 7), 5);
  options = {};
  test::expect_error<ConfigError>([&] { static_cast<void>(total_steps(options, 7)); },
                                  ExitCode::kUsage, {"schedule.max_steps", "schedule.max_epochs"});
  options.max_epochs = 1;
  options.warmup_steps = 8;
  test::expect_error<ConfigError>([&] { static_cast<void>(total_steps(options, 7)); },
                                  ExitCode::kUsage, {"warmup_steps", "8", "7"});
}

}  // namespace
}  // namespace triphase::trainer
