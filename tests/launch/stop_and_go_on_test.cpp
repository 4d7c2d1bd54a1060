// SPDX-License-Identifier: Apache-2.0
// A run that is stopped at any instant goes on to the same bits as if it had not been stopped.
#include "base/random.hpp"
#include "tests/launch/program_fixture.hpp"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>
#include <thread>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// Processes whose command line holds `mark` (this test's own excluded).
std::vector<pid_t> processes_with(const std::string& mark) {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline");
    std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.find(mark) != std::string::npos && std::stoi(name) != getpid()) found.push_back(std::stoi(name));
  }
  return found;
}

void signal_all(const std::string& mark, int number) {
  for (const pid_t pid : processes_with(mark)) kill(pid, number);
}

/// The ranks alone: launcher and shells left out.
void signal_ranks(const std::string& mark, int number) {
  for (const pid_t pid : processes_with(mark)) {
    std::error_code ignored;
    if (fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", ignored) == program_path()) kill(pid, number);
  }
}

fs::path run_file(const TemporaryFolder& folder, const std::string& name) {
  return write_run_file(folder.path(), name,
                        {{"schedule.max_steps", "40"},
                         {"checkpoint.every_steps", "4"},
                         {"checkpoint.keep_last", "2"},
                         {"data.augment.noise_sigma", "0.03"},
                         {"data.augment.shift_voxels", "1"},
                         {"data.augment.text_drop", "0.5"},
                         {"evaluate.every_steps", "8"}});
}

CommandResult train(const fs::path& file, int num_ranks) {
  return triphase("train --quiet --resume auto --config " + file.string(), num_ranks);
}

/// Weights and optimizer of a run's last checkpoint, as bytes.
std::string final_bytes(const fs::path& run_dir) {
  const fs::path last = last_checkpoint(run_dir);
  EXPECT_EQ(last.filename().string(), "step_00000040");
  return read_text(last / "model.safetensors") + read_text(last / "optimizer.safetensors");
}

/// Steps in a run's log, which may be in the middle of a line.
std::int64_t num_logged_steps(const fs::path& run_dir) {
  std::ifstream file(run_dir / "metrics.jsonl");
  std::int64_t count = 0;
  for (std::string line; std::getline(file, line);)
    if (line.find("\"contrastive_loss\"") != std::string::npos) ++count;
  return count;
}

class StopAndGoOn : public ::testing::TestWithParam<int> {};

TEST_P(StopAndGoOn, KilledAtFiveRandomInstantsItEndsInTheSameBits) {
  const int num_ranks = GetParam();
  const TemporaryFolder folder;
  expect_outcome(train(run_file(folder, "undisturbed"), num_ranks), 0, {});

  const fs::path file = run_file(folder, "killed");
  KeyedRandom random{static_cast<std::uint64_t>(num_ranks), 20};
  int killed = 0;
  while (killed < 5) {
    // Far enough apart that every life saves something, near enough that none is the last.
    const auto step = 6 * (killed + 1) + static_cast<std::int64_t>(random.below(4));
    auto running = std::async(std::launch::async, [&] { return train(file, num_ranks); });
    while (num_logged_steps(folder / "runs/killed") < step &&
           running.wait_for(std::chrono::milliseconds(1)) == std::future_status::timeout) {
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(random.uniform(0, 0.03)));
    signal_all(file.string(), SIGKILL);
    const CommandResult result = running.get();
    ASSERT_NE(result.exit_code, 0) << "it was faster than the kill: " << result.output;
    ++killed;
  }
  expect_outcome(train(file, num_ranks), 0, {});
  EXPECT_EQ(final_bytes(folder / "runs/undisturbed"), final_bytes(folder / "runs/killed"));
  // The log holds each step once, in order.
  std::int64_t last = 0;
  for (const Json& line : read_metrics(folder / "runs/killed")) {
    if (!line.contains("loss")) continue;
    EXPECT_EQ(line.at("step").get<std::int64_t>(), last + 1);
    last = line.at("step").get<std::int64_t>();
  }
  EXPECT_EQ(last, 40);
}

TEST_P(StopAndGoOn, Usr1SavesAndEndsWith75AndTheSameBitsFollow) {
  const int num_ranks = GetParam();
  const TemporaryFolder folder;
  expect_outcome(train(run_file(folder, "undisturbed"), num_ranks), 0, {});
  const fs::path file = run_file(folder, "stopped");
  auto running = std::async(std::launch::async, [&] { return train(file, num_ranks); });
  while (!fs::exists(folder / "runs/stopped/metrics.jsonl") || read_metrics(folder / "runs/stopped").empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  signal_ranks(file.string(), SIGUSR1);
  expect_outcome(running.get(), 75, {});
  expect_outcome(train(file, num_ranks), 0, {});
  EXPECT_EQ(final_bytes(folder / "runs/undisturbed"), final_bytes(folder / "runs/stopped"));
}

TEST_P(StopAndGoOn, AStudySavesAndEndsWith75AndGoesOn) {
  const int num_ranks = GetParam();
  const TemporaryFolder folder;
  const fs::path base = run_file(folder, "base");
  const auto study = [&](const std::string& name) {
    write_text(folder / (name + ".toml"), "[study]\nname = \"" + name + "\"\noutput_dir = \"" +
                                              (folder / "runs").string() + "\"\nbase = [\"" + base.string() +
                                              "\"]\n[study.axes]\n\"run.seed\" = [0]\n");
    return triphase("study --quiet --config " + (folder / (name + ".toml")).string(), num_ranks);
  };
  expect_outcome(study("undisturbed"), 0, {"report.html"});
  auto running = std::async(std::launch::async, [&] { return study("stopped"); });
  const fs::path run = folder / "runs/stopped/s0";
  while (num_logged_steps(run) < 2 &&
         running.wait_for(std::chrono::milliseconds(5)) == std::future_status::timeout) {
  }
  signal_ranks((folder / "stopped.toml").string(), num_ranks == 1 ? SIGTERM : SIGUSR1);
  expect_outcome(running.get(), 75, {});
  EXPECT_NO_THROW(last_checkpoint(run));
  EXPECT_FALSE(fs::exists(run / "evaluation"));
  expect_outcome(study("stopped"), 0, {"report.html"});
  EXPECT_EQ(final_bytes(folder / "runs/undisturbed/s0"), final_bytes(run));
}

TEST_P(StopAndGoOn, TheWallTimeLimitSavesAndEndsWith75) {
  const TemporaryFolder folder;
  const fs::path file = run_file(folder, "limited");
  const std::string command = "train --quiet --resume auto --config " + file.string();
  expect_outcome(triphase(command + " --set run.max_seconds=0.001", GetParam()), 75, {});
  EXPECT_NO_THROW(last_checkpoint(folder / "runs/limited"));
  expect_outcome(triphase(command + " --set run.max_seconds=1000", GetParam()), 0, {});
  final_bytes(folder / "runs/limited");
}

INSTANTIATE_TEST_SUITE_P(Ranks, StopAndGoOn, ::testing::Values(1, 2));

TEST(StopAndGoOn, AHaltFileStopsAtAStepAndSaves) {
  const TemporaryFolder folder;
  const fs::path file = run_file(folder, "halted");
  fs::create_directories(folder / "runs/halted");
  write_text(folder / "runs/halted/halt", "");
  expect_outcome(train(file, 2), 75, {});
  EXPECT_NO_THROW(last_checkpoint(folder / "runs/halted"));
}

TEST(StopAndGoOn, ADamagedCheckpointIsNamedAndTheOneBeforeIsUsed) {
  const TemporaryFolder folder;
  const fs::path file = run_file(folder, "damaged");
  expect_outcome(train(file, 1), 0, {});
  const std::string good = final_bytes(folder / "runs/damaged");
  const fs::path last = last_checkpoint(folder / "runs/damaged");
  std::string bytes = read_text(last / "model.safetensors");
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 4);
  write_text(last / "model.safetensors", bytes);
  expect_outcome(train(file, 1), 0, {"step_00000040", "model.safetensors"});
  EXPECT_EQ(final_bytes(folder / "runs/damaged"), good);
}

}  // namespace
}  // namespace triphase::test
