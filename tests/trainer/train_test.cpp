// SPDX-License-Identifier: Apache-2.0
#include "trainer/train.hpp"

#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

TEST(Train, WritesALogOfEachRankAndRunsToItsEnd) {
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), {{"schedule.max_steps", "3"}});
  dist::Runtime runtime({.backend = "self"});
  Logger log(LoggerOptions{.quiet = true});
  const trainer::TrainResult result =
      trainer::train(config, {.resume = "never", .show_progress = false}, runtime, log);
  EXPECT_EQ(result.steps, 3);
  EXPECT_FALSE(result.stopped_on_request);
  const std::string text = read_text(folder / "run/logs/rank-00000.log");
  for (const char* part : {"train method=full", "steps=3", "validation step=3", "done step=3"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

}  // namespace
}  // namespace triphase::test
