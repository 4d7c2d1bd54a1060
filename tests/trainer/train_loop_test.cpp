// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_loop.hpp"

#include <ATen/ATen.h>

#include <set>
#include <tuple>
#include <utility>

#include "base/json.hpp"
#include "models/weights.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/build_model.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

std::vector<Json> metrics_of(const fs::path &run_dir) {
  std::vector<Json> records;
  std::istringstream text(read_text(run_dir / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) records.push_back(Json::parse(line));
  return records;
}

TEST(TrainLoop, LeavesTheAgreedFiles) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), {{"adapt.method", "\"peft\""}});
  const RunRecord record = run_once(config, *self);
  const fs::path run = folder / "run";
  EXPECT_EQ(read_text(run / "config.toml"), config.resolved_toml);
  EXPECT_EQ(read_text(run / "checkpoints/best"),
            fs::path(record.result.best_checkpoint).filename().string() + "\n");

  const Json environment = read_json(run / "environment.json");
  EXPECT_EQ(environment.at("num_ranks"), 1);
  EXPECT_EQ(environment.at("hosts").size(), 1U);
  EXPECT_FALSE(environment.at("data").at("data_hash").get<std::string>().empty());
  const Json &model = environment.at("model");
  EXPECT_DOUBLE_EQ(model.at("trainable_percent").get<double>(),
                   100.0 * model.at("num_trainable").get<double>() /
                       model.at("num_base_parameters").get<double>());
  EXPECT_EQ(environment.at("steps").at("total"), 8);
  EXPECT_EQ(environment.at("steps").at("per_epoch"), 3);
  const std::int64_t bytes =
      environment.at("bytes").at("gradients_reduced_per_step").get<std::int64_t>();
  EXPECT_EQ(bytes, 4 * model.at("num_trainable").get<std::int64_t>());

  std::int64_t num_steps = 0;
  std::int64_t num_validations = 0;
  for (const Json &line : metrics_of(run)) {
    if (line.contains("validation")) {
      ++num_validations;
      for (const char *key : {"loss", "mean_auc", "hcc_auc", "cyst_auc"})
        EXPECT_TRUE(line.at("validation").at(key).is_number()) << key;
      continue;
    }
    ++num_steps;
    EXPECT_EQ(line.at("step"), num_steps);
    EXPECT_EQ(line.at("pairs_seen"), 6 * num_steps);
    EXPECT_EQ(line.at("epoch"), (num_steps - 1) / 3);
    for (const char *key : {"loss", "temperature", "grad_norm", "lr", "pairs_per_second"})
      EXPECT_TRUE(line.at(key).is_number()) << key;
    for (const char *key : {"data", "forward", "loss", "backward", "reduce_exposed", "optimizer"})
      EXPECT_GE(line.at("seconds").at(key).get<double>(), 0) << key;
    for (const char *key : {"data", "forward", "backward", "optimizer"}) {
      const Json &phase = line.at("ranks").at(key);
      EXPECT_EQ(phase.at("median"), phase.at("max")) << key;  // of one rank
      EXPECT_EQ(phase.at("rank"), 0);
      EXPECT_GT(phase.at("max").get<double>(), 0) << key;
      EXPECT_LE(phase.at("max").get<double>(), line.at("seconds").at(key).get<double>()) << key;
    }
    EXPECT_EQ(line.at("bytes_reduced"), bytes);
    EXPECT_GT(line.at("seconds").at("reduce").get<double>(), 0);
  }
  EXPECT_EQ(num_steps, 8);
  EXPECT_EQ(num_validations, 3);  // after steps 3, 6 and the last
}

/// (step, loss) of each validation, in order.
std::vector<std::pair<std::int64_t, double>> validation_losses(const fs::path &run_dir) {
  std::vector<std::pair<std::int64_t, double>> losses;
  for (const Json &line : metrics_of(run_dir))
    if (line.contains("validation"))
      losses.emplace_back(line.at("step").get<std::int64_t>(),
                          line.at("validation").at("loss").get<double>());
  return losses;
}

/// So small a rate that no weight moves: every validation gives the same loss, on every machine.
const std::string kRateThatMovesNothing = "1e-30";

/// Runs with a checkpoint at each of 8 steps and a validation at every second; expects the best one
/// and the last two to be left. Returns the best one's step.
std::int64_t expect_best_and_last_are_left(const std::string &lr, int seed) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const RunRecord record = run_once(tiny_run(folder.path(), {{"run.seed", std::to_string(seed)},
                                                             {"checkpoint.every_steps", "1"},
                                                             {"checkpoint.keep_last", "2"},
                                                             {"evaluate.every_steps", "2"},
                                                             {"schedule.kind", "\"constant\""},
                                                             {"optimizer.lr", lr}}),
                                    *self);
  std::int64_t best_step = 0;
  double best = std::numeric_limits<double>::infinity();
  for (const auto &[step, loss] : validation_losses(folder / "run"))
    if (loss < best) std::tie(best_step, best) = std::pair(step, loss);
  EXPECT_EQ(fs::path(record.result.best_checkpoint).filename(),
            trainer::checkpoint_name(best_step));
  std::set<std::string> left;
  for (const auto &entry : fs::directory_iterator(folder / "run/checkpoints"))
    left.insert(entry.path().filename().string());
  EXPECT_EQ(left, (std::set<std::string>{"best", trainer::checkpoint_name(best_step),
                                         "step_00000007", "step_00000008"}));
  return best_step;
}

TEST(TrainLoop, KeepsTheBestCheckpointAndTheLastOnes) {
  for (const int seed : {1, 2, 3}) expect_best_and_last_are_left("0.3", seed);
  // Of equals the first is the best: an old one, which pruning alone would remove.
  EXPECT_EQ(expect_best_and_last_are_left(kRateThatMovesNothing, 1), 2);
}

/// What a run of up to 60 steps does that validates after each and stops after three without a gain.
struct EarlyStop {
  std::int64_t stop = 0;      ///< the step it ended at
  std::int64_t expected = 0;  ///< by its validation losses
  bool is_count_renewed = false;  ///< a gain came after a validation without one
};

EarlyStop stop_early(const std::string &lr, int seed) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), {{"run.seed", std::to_string(seed)},
                                                             {"schedule.max_steps", "60"},
                                                             {"schedule.early_stop_patience", "3"},
                                                             {"schedule.kind", "\"constant\""},
                                                             {"evaluate.every_steps", "1"},
                                                             {"optimizer.lr", lr}});
  const RunRecord record = run_once(config, *self);
  EXPECT_FALSE(record.result.stopped_on_request);
  EarlyStop seen{.stop = record.result.steps, .expected = 60};
  std::int64_t without_gain = 0;
  double best = std::numeric_limits<double>::infinity();
  for (const auto &[step, loss] : validation_losses(folder / "run")) {
    const bool is_better = loss < best;
    seen.is_count_renewed = seen.is_count_renewed || (is_better && without_gain > 0);
    best = std::min(best, loss);
    without_gain = is_better ? 0 : without_gain + 1;
    if (without_gain == 3) seen.expected = std::min(seen.expected, step);
  }
  EXPECT_TRUE(run_once(config, *self, {.resume = "auto"}).losses.empty());
  return seen;
}

// Three validations in a row without a gain end the run; one with a gain starts the count again.
TEST(TrainLoop, StopsEarlyWhenNothingGetsBetter) {
  EXPECT_EQ(stop_early(kRateThatMovesNothing, 1).stop, 4);
  bool is_count_renewed = false;
  for (const int seed : {1, 2, 3, 4, 5, 6}) {
    const EarlyStop seen = stop_early("0.03", seed);
    EXPECT_EQ(seen.stop, seen.expected) << "seed " << seed;
    is_count_renewed = is_count_renewed || seen.is_count_renewed;
  }
  EXPECT_TRUE(is_count_renewed) << "no seed's count started again: choose others";
}

TEST(TrainLoop, RunsWithoutValidationPromptsOrLabels) {
  const auto self = dist::make_self_group();
  const TemporaryFolder folder;
  const RunRecord record = run_once(
      tiny_run(folder.path(), {{"data.validation_split", "\"\""}, {"evaluate.prompts", ""}}),
      *self);
  EXPECT_EQ(record.result.best_checkpoint, record.result.last_checkpoint);
  EXPECT_EQ(record.losses.size(), 8U);
}

TEST(TrainLoop, StopsAndSavesWhenItsTimeIsUpAndGoesOnToTheSameWeights) {
  for (const int num_ranks : {1, 2}) {
    const TemporaryFolder undisturbed;
    const TemporaryFolder folder;
    const auto run = [&](const fs::path &where, const std::string &max_seconds) {
      RunRecord first;
      on_thread_ranks(num_ranks, [&](dist::ProcessGroup &group) {
        const bool is_last = group.rank() == num_ranks - 1;
        double now = 0;
        trainer::TrainLoopOptions options{.resume = "auto"};
        options.seconds_since_start = [&] { return now; };
        // A step takes 10 s by the clock of the last rank; those of the others stand still.
        options.on_step = [&](std::int64_t, const trainer::StepReport &) {
          now += is_last ? 10 : 0;
        };
        RunRecord record =
            run_once(tiny_run(where, {{"run.max_seconds", max_seconds}}), group, options);
        if (group.rank() == 0) first = std::move(record);
      });
      return first;
    };
    const RunRecord whole = run(undisturbed.path(), "0");
    EXPECT_FALSE(whole.result.stopped_on_request);
    const RunRecord stopped = run(folder.path(), "45");
    EXPECT_TRUE(stopped.result.stopped_on_request);
    EXPECT_EQ(stopped.result.steps, 5);
    EXPECT_EQ(fs::path(stopped.result.last_checkpoint).filename(), "step_00000005");
    const RunRecord resumed = run(folder.path(), "45");  // three steps more: time enough
    EXPECT_FALSE(resumed.result.stopped_on_request);
    expect_same(resumed.weights, whole.weights);
  }
}

TEST(StopRequest, TimeRunsFromTheProgramsStart) {
  const double first = trainer::seconds_since_program_start();
  EXPECT_GT(first, 0);
  EXPECT_GE(trainer::seconds_since_program_start(), first);
}

TEST(TrainLoop, ValidationDoesNotDisturbTheRun) {
  const auto self = dist::make_self_group();
  const TemporaryFolder with;
  const TemporaryFolder without;
  const Settings settings{{"adapt.method", "\"peft\""}, {"adapt.image.dropout", "0.3"}};
  Settings validating = settings;
  validating["evaluate.every_steps"] = "1";
  Settings silent = settings;
  silent["data.validation_split"] = "\"\"";
  expect_same(run_once(tiny_run(with.path(), validating), *self).weights,
              run_once(tiny_run(without.path(), silent), *self).weights);
}

TEST(TrainLoop, StartsFromTheTemperatureOfItsOwnConfiguration) {
  const auto self = dist::make_self_group();
  const TemporaryFolder source;
  run_once(tiny_run(source.path(), {{"optimizer.lr_scale", "0.1"}}), *self);
  const TemporaryFolder folder;
  double first = 0;
  trainer::TrainLoopOptions options;
  options.on_step = [&](std::int64_t step, const trainer::StepReport &report) {
    if (step == 1) first = report.temperature;
  };
  run_once(tiny_run(folder.path(), {{"model.weights", "\"" + (source / "run").string() + "\""},
                                    {"loss.temperature_init", "0.3"}}),
           *self, options);
  EXPECT_NEAR(first, 0.3, 1e-6);
}

TEST(TrainLoop, TenStepsInARowThatAreNotFiniteEndIt) {
  const TemporaryFolder folder;
  models::TwoTower model = trainer::build_base_model(tiny_run(folder.path()));
  models::NamedTensors weights = models::base_state(model);
  for (auto &[name, tensor] : weights)
    if (name == "encode_text.linear_layer.bias") tensor.fill_(NAN);
  models::write_safetensors(folder / "nan.safetensors", weights);
  const trainer::RunConfig config = tiny_run(
      folder.path(), {{"model.weights", "\"" + (folder / "nan.safetensors").string() + "\""},
                      {"schedule.max_steps", "30"},
                      {"data.validation_split", "\"\""}});
  for (const int num_ranks : {1, 2}) {
    std::int64_t num_skipped = 0;
    expect_error<Error>(
        [&] {
          on_thread_ranks(num_ranks, [&](dist::ProcessGroup &group) {
            trainer::TrainLoopOptions options{.resume = "auto"};
            options.on_step = [&, rank = group.rank()](std::int64_t,
                                                       const trainer::StepReport &report) {
              if (rank == 0 && report.is_skipped) ++num_skipped;
            };
            run_once(config, group, options);
          });
        },
        ExitCode::kDiverged, {"not finite", "10", "optimizer.lr"});
    EXPECT_EQ(num_skipped,
              9);  // the tenth ends the run before it counts as done
    fs::remove_all(folder / "run");
  }
}

TEST(DescribeRun, SaysWhatItWouldDo) {
  const trainer::RunConfig config = tiny_run("unused", {{"adapt.method", "\"peft\""}});
  const std::string text = trainer::describe_run(config, 3);
  for (const char *part :
       {"trainable", "2 per rank", "train 18, validation 8", "8 (3 per epoch", "memory per rank"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  EXPECT_FALSE(fs::exists("unused"));
  expect_error<ConfigError>([&] { static_cast<void>(trainer::describe_run(config, 4)); },
                            ExitCode::kUsage, {"global_pairs"});
}

}  // namespace
}  // namespace triphase::test
