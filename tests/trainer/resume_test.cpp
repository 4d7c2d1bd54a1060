// SPDX-License-Identifier: Apache-2.0
// A run that stops and goes on is the run that did not stop.
#include <csignal>

#include "base/hash.hpp"
#include "base/json.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/loop/stop_request.hpp"
#include "trainer/train.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// Asks for a stop once `step` steps are done.
trainer::TrainLoopOptions stop_after(std::int64_t step, const std::string& resume) {
  auto seen = std::make_shared<std::int64_t>(0);
  trainer::TrainLoopOptions options;
  options.resume = resume;
  options.on_step = [seen](std::int64_t done, const trainer::StepReport&) { *seen = done; };
  options.stop_requested = [seen, step] { return *seen >= step; };
  return options;
}

/// Everything in metrics.jsonl that is no time.
std::vector<std::string> metrics_of(const trainer::RunConfig& config) {
  std::vector<std::string> lines;
  std::istringstream text(read_text(fs::path(config.run_dir()) / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    Json record = Json::parse(line);
    record.erase("seconds");
    record.erase("ranks");
    record.erase("pairs_per_second");
    lines.push_back(record.dump());
  }
  return lines;
}

std::map<std::string, std::uint64_t> hashes_of(const fs::path& checkpoint) {
  std::map<std::string, std::uint64_t> hashes;
  for (const std::string name : {"model.safetensors", "optimizer.safetensors", "state.json"})
    hashes[name] = hash_file(checkpoint / name);
  return hashes;
}

const std::vector<Settings> kRuns{
    {{"adapt.method", "\"full\""}},
    {{"adapt.method", "\"full\""},
     {"model.batch_norm", "\"local\""},
     {"loss.phenotype_weight", "1"}},
    {{"adapt.method", "\"peft\""}, {"model.batch_norm", "\"sync\""}},
    {{"adapt.method", "\"peft\""},
     {"adapt.image.dropout", "0.2"},
     {"adapt.text.dropout", "0.2"},
     {"precision.recompute", "\"blocks\""},
     {"data.augment.shift_voxels", "2"},
     {"data.augment.noise_sigma", "0.1"},
     {"data.augment.text_drop", "0.5"}},
    {{"adapt.method", "\"full\""}, {"precision.compute", "\"bfloat16\""}}};

TEST(Resume, GivesTheSameBitsWhereverTheRunStopped) {
  const auto self = dist::make_self_group();
  for (const Settings& settings : kRuns) {
    const TemporaryFolder whole;
    const RunRecord undisturbed = run_once(tiny_run(whole.path(), settings), *self);
    // 18 samples in sixes: an epoch has 3 steps, so 3 and 6 are epoch ends.
    const bool draws = settings.contains("adapt.image.dropout");
    for (const std::int64_t stop : draws ? std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7}
                                         : std::vector<std::int64_t>{1, 3, 4, 7}) {
      SCOPED_TRACE(str("stopped after step ", stop));
      const TemporaryFolder parts;
      const trainer::RunConfig config = tiny_run(parts.path(), settings);
      const RunRecord first = run_once(config, *self, stop_after(stop, "never"));
      EXPECT_TRUE(first.result.stopped_on_request);
      EXPECT_EQ(first.result.steps, stop);
      const RunRecord second = run_once(config, *self, {.resume = "auto"});
      EXPECT_FALSE(second.result.stopped_on_request);
      EXPECT_EQ(second.result.steps, 8);
      expect_same(second.weights, undisturbed.weights);
      EXPECT_EQ(metrics_of(config), metrics_of(tiny_run(whole.path(), settings)));
      EXPECT_EQ(hashes_of(second.result.last_checkpoint),
                hashes_of(undisturbed.result.last_checkpoint));
    }
  }
}

TEST(Resume, LosesNothingButTheStepsSinceTheCheckpointWhenTheProcessDies) {
  const auto self = dist::make_self_group();
  const TemporaryFolder whole;
  const Settings settings{{"checkpoint.every_steps", "2"}};
  const RunRecord undisturbed = run_once(tiny_run(whole.path(), settings), *self);
  const TemporaryFolder parts;
  const trainer::RunConfig config = tiny_run(parts.path(), settings);
  trainer::TrainLoopOptions dying;
  dying.on_step = [](std::int64_t step, const trainer::StepReport&) {
    if (step == 5) throw std::runtime_error("killed");
  };
  EXPECT_THROW(run_once(config, *self, dying), std::runtime_error);
  std::vector<std::int64_t> steps;
  trainer::TrainLoopOptions again{.resume = "auto"};
  again.on_step = [&](std::int64_t step, const trainer::StepReport&) { steps.push_back(step); };
  const RunRecord second = run_once(config, *self, again);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{5, 6, 7, 8}));
  expect_same(second.weights, undisturbed.weights);
  EXPECT_EQ(metrics_of(config), metrics_of(tiny_run(whole.path(), settings)));
}

TEST(Resume, WorksOnAnotherNumberOfRanks) {
  const Settings settings{{"precision.compute", "\"float64\""}, {"adapt.method", "\"peft\""}};
  const auto self = dist::make_self_group();
  const TemporaryFolder whole;
  const RunRecord undisturbed = run_once(tiny_run(whole.path(), settings), *self);
  for (const auto& [before, after] :
       std::vector<std::pair<int, int>>{{1, 2}, {2, 1}, {2, 3}, {3, 1}}) {
    SCOPED_TRACE(str(before, " ranks, then ", after));
    const TemporaryFolder parts;
    const trainer::RunConfig config = tiny_run(parts.path(), settings);
    on_thread_ranks(before, [&](dist::ProcessGroup& group) {
      run_once(config, group, stop_after(4, "never"));
    });
    RunRecord last;
    on_thread_ranks(after, [&](dist::ProcessGroup& group) {
      RunRecord record = run_once(config, group, {.resume = "auto"});
      if (group.rank() == 0) last = std::move(record);
    });
    expect_near(last.weights, undisturbed.weights, 1e-10);
    ASSERT_EQ(last.losses.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i)
      EXPECT_NEAR(last.losses[i], undisturbed.losses[i + 4], 1e-10);
  }
}

TEST(Resume, PassesOverADamagedCheckpoint) {
  const auto self = dist::make_self_group();
  const TemporaryFolder whole;
  const Settings settings{{"checkpoint.every_steps", "2"}, {"checkpoint.keep_last", "1"}};
  const RunRecord undisturbed = run_once(tiny_run(whole.path(), settings), *self);
  const TemporaryFolder parts;
  Settings keeping = settings;
  keeping["checkpoint.keep_last"] = "9";
  run_once(tiny_run(parts.path(), keeping), *self, stop_after(6, "never"));
  write_text(parts / "run/checkpoints/step_00000006/model.safetensors", "damaged");
  const RunRecord second = run_once(tiny_run(parts.path(), settings), *self, {.resume = "auto"});
  EXPECT_EQ(second.losses.size(), 4U);
  expect_same(second.weights, undisturbed.weights);
}

TEST(Resume, FromANamedCheckpointForgetsWhatCameAfter) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const trainer::RunConfig config =
      tiny_run(folder.path(), {{"checkpoint.every_steps", "2"}, {"checkpoint.keep_last", "9"}});
  const RunRecord whole = run_once(config, *self);
  const std::vector<std::string> metrics = metrics_of(config);
  const fs::path fourth = folder / "run/checkpoints/step_00000004";
  const RunRecord stopped = run_once(config, *self, stop_after(5, fourth.string()));
  EXPECT_EQ(stopped.result.steps, 5);
  EXPECT_FALSE(fs::exists(folder / "run/checkpoints/step_00000008"));
  const RunRecord rest = run_once(config, *self, {.resume = "auto"});
  EXPECT_EQ(rest.losses.size(), 3U);
  expect_same(rest.weights, whole.weights);
  // The records of steps made twice are those of the second time alone.
  EXPECT_EQ(metrics_of(config), metrics);
}

TEST(Resume, OfAFinishedRunDoesNothing) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path());
  const RunRecord first = run_once(config, *self);
  const std::string metrics = read_text(folder / "run/metrics.jsonl");
  const RunRecord second = run_once(config, *self, {.resume = "auto"});
  EXPECT_TRUE(second.losses.empty());
  EXPECT_EQ(second.result.best_checkpoint, first.result.best_checkpoint);
  EXPECT_EQ(second.result.last_checkpoint, first.result.last_checkpoint);
  EXPECT_EQ(read_text(folder / "run/metrics.jsonl"), metrics);
}

TEST(Stop, ASignalEndsAllRanksAtTheSameStepWithACheckpoint) {
  trainer::install_stop_signals();
  for (const int signal : {SIGUSR1, SIGTERM}) {
    trainer::clear_stop_request();
    const TemporaryFolder folder;
    const trainer::RunConfig config = tiny_run(folder.path());
    std::vector<std::int64_t> steps(2);
    on_thread_ranks(2, [&](dist::ProcessGroup& group) {
      trainer::TrainLoopOptions options;
      // One rank alone sees the request, as when a signal reaches one host first.
      options.stop_requested = [&group] { return group.rank() == 1 && trainer::stop_requested(); };
      options.on_step = [&group, signal](std::int64_t step, const trainer::StepReport&) {
        if (step == 3 && group.rank() == 0) std::raise(signal);
      };
      const RunRecord record = run_once(config, group, options);
      EXPECT_TRUE(record.result.stopped_on_request);
      steps[static_cast<std::size_t>(group.rank())] = record.result.steps;
    });
    EXPECT_EQ(steps[0], steps[1]);
    EXPECT_GE(steps[0], 3);
    EXPECT_LE(steps[0], 4);
    EXPECT_TRUE(fs::exists(
        folder / ("run/checkpoints/" + trainer::checkpoint_name(steps[0]) + "/COMPLETE")));
  }
  trainer::clear_stop_request();
}

TEST(Stop, TheHaltFileIsHeardOnce) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path());
  trainer::TrainLoopOptions options;
  options.on_step = [&](std::int64_t step, const trainer::StepReport&) {
    if (step == 2) write_text(folder / "run/halt", "");
  };
  const RunRecord first = run_once(config, *self, options);
  EXPECT_TRUE(first.result.stopped_on_request);
  EXPECT_EQ(first.result.steps, 2);
  const RunRecord second = run_once(config, *self, {.resume = "auto"});
  EXPECT_FALSE(second.result.stopped_on_request);
  EXPECT_EQ(second.result.steps, 8);
}

}  // namespace
}  // namespace triphase::test
