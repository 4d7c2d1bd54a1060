// SPDX-License-Identifier: Apache-2.0
#include "base/logging.hpp"
#include "tests/base/stderr_capture.hpp"
#include "tests/support/test_support.hpp"

#include <regex>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

namespace triphase {
namespace {

using test::expect_error;
using test::StderrCapture;
using test::StderrTarget;
using test::TemporaryFolder;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// What a logger with these options prints for one information and one warning.
std::string printed(LoggerOptions options) {
  StderrCapture capture(StderrTarget::kFile);
  Logger logger(std::move(options));
  logger.info("step=", 3);
  logger.warning("slow");
  return capture.take();
}

TEST(Logger, WritesTimeRankLevelAndText) {
  const std::vector<std::string> lines = lines_of(printed({.rank = 0, .num_ranks = 8}));
  ASSERT_EQ(lines.size(), 2U);
  const std::string time = R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d )";
  EXPECT_TRUE(std::regex_match(lines[0], std::regex(time + R"(\[rank 0/8\] info step=3)")))
      << lines[0];
  EXPECT_TRUE(std::regex_match(lines[1], std::regex(time + R"(\[rank 0/8\] warning slow)")))
      << lines[1];
}

TEST(Logger, OtherRanksPrintTheirWarningsAlone) {
  const std::vector<std::string> lines = lines_of(printed({.rank = 3, .num_ranks = 8}));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("[rank 3/8] warning slow"), std::string::npos);
}

TEST(Logger, QuietPrintsWarningsAlone) {
  const std::vector<std::string> lines = lines_of(printed({.quiet = true}));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("warning slow"), std::string::npos);
}

TEST(Logger, EveryRankAppendsEverythingToItsFile) {
  const TemporaryFolder folder;
  const LoggerOptions options = {
      .rank = 3, .num_ranks = 8, .quiet = true, .file = folder / "rank-00003.log"};
  static_cast<void>(printed(options));
  static_cast<void>(printed(options));
  const std::vector<std::string> lines = lines_of(test::read_text(options.file));
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_NE(lines[2].find("[rank 3/8] info step=3"), std::string::npos);
}

TEST(Logger, OneEventIsOneLine) {
  StderrCapture capture(StderrTarget::kFile);
  Logger().info("bad header\n  while reading\r\n sample 3");
  const std::string text = capture.take();
  EXPECT_EQ(lines_of(text).size(), 1U) << text;
  EXPECT_NE(text.find("bad header |   while reading  |  sample 3"), std::string::npos) << text;
}

TEST(Logger, LinesOfSeveralThreadsStayWhole) {
  const TemporaryFolder folder;
  Logger logger({.rank = 1, .quiet = true, .file = folder / "log"});
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) logger.info("thread=", t, " i=", i, " end");
      });
  }
  const std::vector<std::string> lines = lines_of(test::read_text(folder / "log"));
  EXPECT_EQ(lines.size(), 800U);
  for (const std::string& line : lines)
    ASSERT_TRUE(std::regex_search(line, std::regex(R"(\] info thread=\d i=\d+ end$)"))) << line;
}

TEST(Logger, FullDiskIsNoReasonToStop) {
  Logger logger({.rank = 1, .file = "/dev/full"});
  EXPECT_NO_THROW(logger.info("lost"));
}

TEST(Logger, LogThatCannotBeCreatedIsAnError) {
  const TemporaryFolder folder;
  test::write_text(folder / "file", "");
  expect_error<IoError>([&] { Logger({.file = folder.path() / "file" / "log"}); },
                        ExitCode::kCannotCreateOutput, {"cannot open the log", "file/log"});
}

TEST(Logger, CanBeMoved) {
  const TemporaryFolder folder;
  Logger first({.rank = 2, .num_ranks = 4, .file = folder / "log"});
  Logger second = std::move(first);
  second.info("one");
  Logger third;
  third = std::move(second);
  third.info("two");
  EXPECT_EQ(third.options().rank, 2);
  EXPECT_EQ(third.options().num_ranks, 4);
  EXPECT_EQ(lines_of(test::read_text(folder / "log")).size(), 2U);
}

}  // namespace
}  // namespace triphase
