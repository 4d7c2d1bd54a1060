// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/metrics_log.hpp"

#include <cmath>

#include "tests/support/test_support.hpp"

namespace triphase::trainer {
namespace {

using test::TemporaryFolder;

TEST(MetricsLog, KeepsOneObjectALine) {
  const TemporaryFolder folder;
  {
    MetricsLog log(folder / "metrics.jsonl", 0);
    log.append(Json{{"step", 1}, {"loss", 0.5}});
    log.append(Json{{"step", 2}, {"loss", std::nan("")}});
    log.sync();
  }
  EXPECT_EQ(test::read_text(folder / "metrics.jsonl"),
            "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":null}\n");
}

TEST(MetricsLog, DropsLaterStepsAndCutLinesWhenARunGoesOn) {
  const TemporaryFolder folder;
  test::write_text(folder / "metrics.jsonl",
                   "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"validation\":{}}\nnot "
                   "json\n{\"step\":3}\n{\"step\":4");
  MetricsLog log(folder / "metrics.jsonl", 2);
  log.append(Json{{"step", 3}, {"again", true}});
  EXPECT_EQ(
      test::read_text(folder / "metrics.jsonl"),
      "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"validation\":{}}\n{\"step\":3,\"again\":true}\n");
}

TEST(MetricsLog, SaysThatAFileCannotBeMade) {
  const TemporaryFolder folder;
  test::expect_error<IoError>([&] { const MetricsLog log(folder / "absent/metrics.jsonl", 0); },
                              ExitCode::kCannotCreateOutput, {"absent/metrics.jsonl"});
}

}  // namespace
}  // namespace triphase::trainer
