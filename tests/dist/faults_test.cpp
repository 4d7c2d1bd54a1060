// SPDX-License-Identifier: Apache-2.0
// Whole jobs that go wrong: each must end by itself, with the right exit code, naming what
// happened. The multi-rank main of the tests is tested in the same way.
#include "tests/support/test_support.hpp"

#include <chrono>

namespace triphase::test {
namespace {

using Clock = std::chrono::steady_clock;

CommandResult run_job(const std::string& program, const std::string& arguments) {
  return run_command("TRIPHASE_TEST_HANG_SECONDS=3 timeout -k 5 60 " MPIEXEC " -np 3 " + program +
                     " " + arguments);
}

CommandResult run_harness(const std::string& test) {
  return run_job(HARNESS_PROGRAM, "--gtest_color=no --gtest_filter=" + test);
}

void expect_words(const CommandResult& result, std::initializer_list<std::string> words) {
  EXPECT_NE(result.exit_code, 124) << "the job hung\n" << result.output;
  for (const std::string& word : words)
    EXPECT_NE(result.output.find(word), std::string::npos) << "'" << word << "' is missing in:\n"
                                                           << result.output;
}

TEST(Harness, PassesWhenAllRanksPass) {
  const CommandResult result = run_harness("Harness.PassesEverywhere");
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST(Harness, AFailureOfOneRankFailsTheJobAndIsNamed) {
  const CommandResult result = run_harness("Harness.FailsOnRankOne");
  EXPECT_EQ(result.exit_code, 1) << result.output;
  expect_words(result, {"[rank 1/3]", "as wanted", "failed on another rank",
                        "FAILED  ] Harness.FailsOnRankOne"});
}

TEST(Harness, AnExceptionOfOneRankFailsTheJobAndIsNamed) {
  const CommandResult result = run_harness("Harness.ThrowsOnRankOne");
  EXPECT_EQ(result.exit_code, 1) << result.output;
  expect_words(result, {"[rank 1/3]", "thrown as wanted"});
}

TEST(Harness, AHangIsEndedAndNamed) {
  for (const std::string test : {"Harness.HangsOnRankOne", "Harness.HangsInACollective"}) {
    const CommandResult result = run_harness(test);
    EXPECT_EQ(result.exit_code, 78) << result.output;
    expect_words(result, {"still in " + test + " after 3 s"});
  }
}

TEST(Harness, NoTestsIsAFailure) { EXPECT_EQ(run_harness("Nothing.At*All").exit_code, 1); }

TEST(Faults, AGoodJobEndsWell) {
  const CommandResult result = run_job(FAULT_PROGRAM, "not");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(result.output, "");
}

TEST(Faults, ARankThatDoesNotComeEndsTheJobWith78AndIsNamed) {
  const auto start = Clock::now();
  const CommandResult result = run_job(FAULT_PROGRAM, "late");
  EXPECT_EQ(result.exit_code, 78) << result.output;
  expect_words(result, {"ends the job", "for rank 1.", "all_reduce(sum) of Float [4]"});
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(45)) << "it waited for the sleeper";
}

TEST(Faults, ARankThatDoesNotComeToAPartOfTheGroupIsNamedToo) {
  const CommandResult result = run_job(FAULT_PROGRAM, "late_in_part");
  EXPECT_EQ(result.exit_code, 78) << result.output;
  expect_words(result, {"rank 1"});
}

TEST(Faults, AnErrorThatOneRankHasEndsTheJobWithItsCode) {
  const CommandResult result = run_job(FAULT_PROGRAM, "throws");
  EXPECT_EQ(result.exit_code, 65) << result.output;
  expect_words(result, {"rank 1 ends the job: the volume is cut short"});
}

TEST(Faults, AnAgreedErrorLetsAllRanksLeaveWithItsCode) {
  const CommandResult result = run_job(FAULT_PROGRAM, "agreed");
  EXPECT_EQ(result.exit_code, 66) << result.output;
  for (int rank = 0; rank < 3; ++rank)
    expect_words(result, {str("rank ", rank, " leaves: rank 1 of 3: the volume is cut short")});
}

TEST(Faults, RanksThatDisagreeEndTheJobWith71) {
  const CommandResult result = run_job(FAULT_PROGRAM, "disagrees");
  EXPECT_EQ(result.exit_code, 71) << result.output;
  expect_words(result, {"rank 1 called all_reduce(sum) of Float [5]"});
}

TEST(Faults, ATimeoutWithinAnAgreementKeepsItsCode) {
  const CommandResult result = run_job(FAULT_PROGRAM, "late_in_agreement");
  EXPECT_EQ(result.exit_code, 78) << result.output;
  expect_words(result, {"for rank 1."});
}

TEST(Faults, ACrashIsABugAndNamesTheRank) {
  const CommandResult result = run_job(FAULT_PROGRAM, "crashes");
  EXPECT_EQ(result.exit_code, 70) << result.output;
  expect_words(result, {"rank 1 was ended by signal 11"});
}

TEST(Faults, AnExceptionThroughTheRuntimeDoesNotHangTheJob) {
  const CommandResult result = run_job(FAULT_PROGRAM, "unwound");
  EXPECT_NE(result.exit_code, 0) << result.output;
  expect_words(result, {"the volume is cut short"});
}

TEST(Faults, WithoutALauncherTheProgramIsOneRank) {
  const CommandResult result = run_command(FAULT_PROGRAM " agreed");
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

}  // namespace
}  // namespace triphase::test
