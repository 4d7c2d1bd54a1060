// SPDX-License-Identifier: Apache-2.0
// The Slurm script against a mpirun and a scontrol that only take notes.
#include "tests/support/test_support.hpp"

#include <signal.h>

#include <chrono>
#include <future>
#include <thread>

#include <gtest/gtest.h>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

class SlurmScript : public ::testing::Test {
 protected:
  SlurmScript() {
    // Ends with $FAKE_CODE; or waits, and after as many USR1 as $FAKE_SIGNALS ends with 75.
    program("mpirun",
            "echo \"$@\" >>$NOTES/mpirun\n"
            "[ -n \"${FAKE_CODE:-}\" ] && exit $FAKE_CODE\n"
            "heard=0\n"
            "trap 'heard=$((heard + 1)); echo usr1 >>$NOTES/heard; [ $heard -lt ${FAKE_SIGNALS:-1} ] || exit 75' USR1\n"
            "trap 'echo term >>$NOTES/heard; exit 143' TERM\n"
            "echo $PPID >$NOTES/script.part && mv $NOTES/script.part $NOTES/script\n"
            "while :; do sleep 0.02; done\n");
    program("scontrol", "echo \"$@\" >>$NOTES/scontrol\n");
  }

  /// What the script did with "run.toml --set a.b=c" as its arguments.
  CommandResult submit(const std::string& environment) const {
    return run_command("cd " + folder_.path().string() + " && env PATH=" + (folder_ / "bin").string() + ":$PATH NOTES=" +
                       folder_.path().string() + " SLURM_JOB_ID=7 TRIPHASE_PROGRAM=the/program " + environment +
                       " bash " + (source_folder() / "launch/slurm.sh").string() + " run.toml --set a.b=c");
  }

  /// Sends the script one signal after the other, each once mpirun has heard of the one before.
  void signal_script(const std::vector<int>& signals) const {
    wait_for([&] { return fs::exists(folder_ / "script"); });
    const pid_t script = std::stoi(note("script"));
    std::size_t heard = 0;
    for (const int number : signals) {
      ASSERT_EQ(kill(script, number), 0);
      heard += std::string("usr1\n").size();
      wait_for([&] { return note("heard").size() >= heard; });
    }
  }

  std::string note(const std::string& name) const { return read_text(folder_ / name); }

 private:
  void program(const std::string& name, const std::string& text) {
    fs::create_directories(folder_ / "bin");
    write_text(folder_ / "bin" / name, "#!/bin/bash\n" + text);
    fs::permissions(folder_ / "bin" / name, fs::perms::owner_all);
  }
  template <class Condition>
  static void wait_for(const Condition& holds) {
    for (int i = 0; i < 3000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_TRUE(holds());
  }

  TemporaryFolder folder_;
};

TEST_F(SlurmScript, TrainsWithItsArgumentsAndGoesOnFromWhatIsThere) {
  EXPECT_EQ(submit("FAKE_CODE=0 TRIPHASE_MPI_FLAGS='--bind-to none'").exit_code, 0);
  EXPECT_EQ(note("mpirun"), "--bind-to none the/program train --config run.toml --resume auto --set a.b=c\n");
}

TEST_F(SlurmScript, PassesOtherCodesOnWithoutQueueingAgain) {
  for (const int code : {0, 1, 64, 65, 70, 76, 78, 137})
    EXPECT_EQ(submit("FAKE_CODE=" + std::to_string(code)).exit_code, code);
  EXPECT_EQ(note("scontrol"), "");
}

TEST_F(SlurmScript, QueuesTheJobOrArrayTaskAgainAfter75) {
  EXPECT_EQ(submit("FAKE_CODE=75").exit_code, 75);
  EXPECT_EQ(note("scontrol"), "requeue 7\n");
  EXPECT_EQ(submit("FAKE_CODE=75 SLURM_ARRAY_JOB_ID=5 SLURM_ARRAY_TASK_ID=2").exit_code, 75);
  EXPECT_EQ(note("scontrol"), "requeue 7\nrequeue 5_2\n");
}

TEST_F(SlurmScript, HandsBothSignalsToTheRanksAsUsr1AndWaitsForTheirEnd) {
  auto job = std::async(std::launch::async, [&] { return submit("FAKE_SIGNALS=3"); });
  signal_script({SIGUSR1, SIGTERM, SIGUSR1});
  const CommandResult result = job.get();
  EXPECT_EQ(result.exit_code, 75) << result.output;
  EXPECT_EQ(note("heard"), "usr1\nusr1\nusr1\n");
  EXPECT_EQ(note("scontrol"), "requeue 7\n");
}

TEST_F(SlurmScript, SaysWhatItWantsWithoutARunFile) {
  const CommandResult result = run_command("bash " + (source_folder() / "launch/slurm.sh").string());
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.output.find("usage: sbatch launch/slurm.sh RUN.toml"), std::string::npos) << result.output;
}

}  // namespace
}  // namespace triphase::test
