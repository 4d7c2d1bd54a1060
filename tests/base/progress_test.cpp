// SPDX-License-Identifier: Apache-2.0
#include "base/progress.hpp"
#include "base/parallel.hpp"
#include "tests/base/stderr_capture.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace triphase {
namespace {

using test::StderrCapture;
using test::StderrTarget;

std::int64_t count_of(const std::string& text, char c) {
  return std::count(text.begin(), text.end(), c);
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ProgressText, SaysDonePercentRateAndTimeLeft) {
  EXPECT_EQ(progress_text(12, 100, 4), "12/100 (12 %), 3/s, 0:29 left");
  EXPECT_EQ(progress_text(1, 3601, 1), "1/3601 (0 %), 1/s, 1:00:00 left");
  EXPECT_EQ(progress_text(1, 8, 60), "1/8 (12 %), 0.0167/s, 7:00 left");
}

TEST(ProgressText, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(progress_text(0, 100, 4), "0/100 (0 %)");
  EXPECT_EQ(progress_text(5, 100, 0), "5/100 (5 %)");
  EXPECT_EQ(progress_text(100, 100, 10), "100/100 (100 %), 10/s");
  EXPECT_EQ(progress_text(7, 0, 1), "7, 7/s");
}

TEST(ProgressText, SurvivesAbsurdNumbers) {
  EXPECT_TRUE(holds(progress_text(1, std::int64_t{1} << 62, 1e9), "left"));
  EXPECT_TRUE(holds(progress_text(120, 100, 1), "(120 %)"));
}

TEST(Progress, InALogEveryDueLineStandsAlone) {
  StderrCapture capture(StderrTarget::kFile);
  Progress progress("caching", 3, {.seconds_between_lines = 0});
  progress.advance();
  progress.advance(1, "study 2");
  progress.finish();
  const std::string text = capture.take();
  EXPECT_EQ(count_of(text, '\n'), 3) << text;
  EXPECT_EQ(count_of(text, '\r') + count_of(text, '\x1b'), 0) << text;
  EXPECT_EQ(text.find("caching: 1/3 (33 %)"), 0U) << text;
  EXPECT_TRUE(holds(text, ", study 2\n")) << text;
  EXPECT_TRUE(holds(text, "caching: 2/3 (66 %)")) << text;
  EXPECT_TRUE(holds(text, ", took ")) << text;
}

TEST(Progress, InALogNothingIsWrittenBeforeItsTime) {
  StderrCapture capture(StderrTarget::kFile);
  Progress progress("caching", 1000, {.seconds_between_lines = 3600});
  for (int i = 0; i < 1000; ++i) progress.advance();
  EXPECT_EQ(capture.take(), "");
}

TEST(Progress, OnATerminalABarIsRedrawnOnOneLine) {
  StderrCapture capture(StderrTarget::kTerminal);
  Progress progress("caching", 4, {.seconds_between_lines = 3600});
  progress.advance(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));  // a redraw is due after 100
  progress.advance(1);
  progress.finish();
  const std::string text = capture.take();
  EXPECT_EQ(count_of(text, '\n'), 1) << text;
  EXPECT_TRUE(holds(text, "\rcaching [############............] 2/4 (50 %)")) << text;
  EXPECT_TRUE(holds(text, "\x1b[K")) << text;
}

TEST(Progress, DestructorOfAnUnfinishedBarEndsItsLine) {
  StderrCapture capture(StderrTarget::kTerminal);
  {
    Progress progress("caching", 4);
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    progress.advance();
  }
  const std::string text = capture.take();
  EXPECT_TRUE(holds(text, "1/4 (25 %)")) << text;
  EXPECT_EQ(text.back(), '\n') << text;
}

TEST(Progress, DisabledIsSilent) {
  StderrCapture capture(StderrTarget::kFile);
  Progress progress("caching", 2, {.enabled = false, .seconds_between_lines = 0});
  progress.advance(2);
  progress.finish();
  EXPECT_EQ(capture.take(), "");
}

TEST(Progress, IsSilentAfterItsEnd) {
  StderrCapture capture(StderrTarget::kFile);
  Progress progress("caching", 2, {.seconds_between_lines = 0});
  progress.finish();
  progress.advance();
  progress.finish();
  EXPECT_EQ(count_of(capture.take(), '\n'), 1);
}

TEST(Progress, CountsWhatSeveralThreadsDid) {
  StderrCapture capture(StderrTarget::kFile);
  Progress progress("caching", 400, {.seconds_between_lines = 3600});
  parallel_for(400, 4, [&](std::int64_t) { progress.advance(); });
  progress.finish();
  const std::string text = capture.take();
  EXPECT_TRUE(holds(text, "400/400 (100 %)")) << text;
}

}  // namespace
}  // namespace triphase
