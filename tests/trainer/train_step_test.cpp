// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_step.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include <array>
#include <cmath>

#include "dist/runtime.hpp"
#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

/// Everything a step needs, on one rank or on each of a group.
class StepBench {
 public:
  explicit StepBench(const Settings& settings, dist::ProcessGroup* group = nullptr)
      : config_(tiny_run("unused", settings)),
        own_group_(dist::make_self_group()),
        group_(group != nullptr ? *group : *own_group_),
        data_(trainer::open_train_data(config_, models::model_preset("merlin_tiny"))),
        trainable_(trainer::build_trainable_model(config_)),
        optimizer_(models::trainable_parameters(trainable_.model), config_.optimizer),
        reducer_(group_, models::trainable_parameters(trainable_.model)),
        step_(trainable_.model, group_, optimizer_, reducer_, config_) {
    at::set_num_threads(1);
  }
  data::Batch batch(std::int64_t epoch = 0, std::int64_t step_in_epoch = 0) {
    return *trainer::open_epoch(data_, config_,
                                {.epoch = epoch,
                                 .step_in_epoch = step_in_epoch,
                                 .rank = group_.rank(),
                                 .num_ranks = group_.num_ranks()})
                ->next();
  }
  trainer::StepReport run(const data::Batch& batch, std::int64_t step = 0, double lr_factor = 1) {
    return step_.run(batch, lr_factor, step);
  }
  models::TwoTower& model() { return trainable_.model; }
  std::map<std::string, at::Tensor> weights() { return copy_weights(trainable_.model); }
  trainer::Optimizer& optimizer() { return optimizer_; }

 private:
  trainer::RunConfig config_;
  std::unique_ptr<dist::ProcessGroup> own_group_;
  dist::ProcessGroup& group_;
  trainer::TrainData data_;
  trainer::TrainableModel trainable_;
  trainer::Optimizer optimizer_;
  dist::GradientReducer reducer_;
  trainer::TrainStep step_;
};

TEST(ReducerOptions, AreThoseOfTheConfiguration) {
  const dist::GradientReducerOptions usual = trainer::reducer_options({});
  EXPECT_EQ(usual.overlap, dist::Overlap::kAuto);
  EXPECT_EQ(usual.wire_dtype, dist::WireDtype::kGradient);
  EXPECT_EQ(usual.bucket_bytes, 16 << 20);
  EXPECT_FALSE(usual.is_sharded);
  trainer::DistributedOptions options;
  options.overlap = "on";
  options.wire_dtype = "bfloat16";
  options.bucket_bytes = 4096;
  options.shard_optimizer = true;
  const dist::GradientReducerOptions other = trainer::reducer_options(options);
  EXPECT_EQ(other.overlap, dist::Overlap::kOn);
  EXPECT_EQ(other.wire_dtype, dist::WireDtype::kBfloat16);
  EXPECT_EQ(other.bucket_bytes, 4096);
  EXPECT_TRUE(other.is_sharded);
  options.overlap = "off";
  EXPECT_EQ(trainer::reducer_options(options).overlap, dist::Overlap::kOff);
}

TEST(TrainStep, FrozenWeightsAreFrozen) {
  for (const std::string bn : {"\"frozen\"", "\"local\"", "\"sync\""}) {
    StepBench bench({{"adapt.method", "\"peft\""},
                     {"optimizer.weight_decay", "0.5"},
                     {"model.batch_norm", bn}});
    const auto before = bench.weights();
    std::set<std::string> trained;
    for (const auto& [name, tensor] : models::trainable_parameters(bench.model()))
      trained.insert(name);
    const data::Batch batch = bench.batch();
    for (std::int64_t step = 0; step < 3; ++step) EXPECT_FALSE(bench.run(batch, step).is_skipped);
    std::int64_t num_changed = 0;
    for (const auto& [name, tensor] : bench.weights()) {
      const bool is_equal = at::equal(tensor, before.at(name));
      const bool may_move = bn != "\"frozen\"" && (name.find("running_") != std::string::npos ||
                                                   name.find("num_batches") != std::string::npos);
      if (!trained.contains(name) && !may_move) {
        EXPECT_TRUE(is_equal) << name;
      }
      if (!is_equal) ++num_changed;
    }
    EXPECT_GE(num_changed, static_cast<std::int64_t>(trained.size() / 2));
  }
}

thread_local std::map<std::string, std::int64_t> operator_calls;

/// How often this thread calls each of ATen's operators in body().
std::map<std::string, std::int64_t> calls_in(const std::function<void()>& body) {
  operator_calls.clear();
  const auto count = [](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
    ++operator_calls[call.name()];
    return nullptr;
  };
  const at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}));
  body();
  at::removeCallback(handle);
  return operator_calls;
}

TEST(TrainStep, FusedKernelsUpdateWhatTrains) {
  StepBench bench(Settings{{"adapt.method", "\"peft\""}});
  const data::Batch batch = bench.batch();
  const auto calls = calls_in([&] { bench.run(batch); });
  const auto num_trained =
      static_cast<std::int64_t>(models::trainable_parameters(bench.model()).size());
  ASSERT_TRUE(calls.contains("aten::_fused_adamw_"));
  EXPECT_LT(calls.at("aten::_fused_adamw_"), num_trained / 2);  // one for each group of alike ones
}

TEST(TrainStep, NeverReachedParametersStayUnderFullTraining) {
  StepBench bench({{"adapt.method", "\"full\""}, {"optimizer.weight_decay", "0.5"}});
  const auto before = bench.weights();
  const data::Batch batch = bench.batch();
  bench.run(batch);
  for (const auto& [name, tensor] : bench.weights()) {
    const bool is_reached = name.find("_global") == std::string::npos &&
                            name.find("pooler") == std::string::npos &&
                            name.find("classifier") == std::string::npos;
    if (!is_reached) {
      EXPECT_TRUE(at::equal(tensor, before.at(name))) << name;
    }
  }
}

TEST(TrainStep, LossFallsOnOneBatch) {
  for (const std::string compute : {"\"float32\"", "\"bfloat16\"", "\"float64\""}) {
    for (const std::string format : {"\"contiguous\"", "\"channels_last_3d\""}) {
      StepBench bench({{"precision.compute", compute},
                       {"precision.memory_format", format},
                       {"loss.phenotype_weight", "0.5"},
                       {"optimizer.lr", "3e-3"}});
      const data::Batch batch = bench.batch();
      const double first = bench.run(batch, 0).loss;
      double last = first;
      for (std::int64_t step = 1; step < 15; ++step) last = bench.run(batch, step).loss;
      EXPECT_LT(last, first) << compute << " " << format;
    }
  }
}

TEST(TrainStep, FormatsAndRecomputationAgree) {
  const auto weights_after = [](const Settings& changes) {
    Settings settings{{"precision.compute", "\"float64\""}, {"adapt.method", "\"full\""}};
    for (const auto& [key, value] : changes) settings[key] = value;
    StepBench bench(settings);
    const data::Batch batch = bench.batch();
    for (std::int64_t step = 0; step < 3; ++step) bench.run(batch, step);
    return bench.weights();
  };
  const auto plain = weights_after({});
  expect_near(weights_after({{"precision.memory_format", "\"channels_last_3d\""}}), plain, 1e-11);
  expect_same(weights_after({{"precision.recompute", "\"blocks\""}}), plain);
  expect_same(weights_after({{"precision.recompute", "\"stages\""}}), plain);
}

TEST(TrainStep, NumbersThatAreNotFiniteChangeNothing) {
  for (const std::string bn : {"\"frozen\"", "\"local\"", "\"sync\""}) {
    StepBench bench({{"model.batch_norm", bn}});
    data::Batch batch = bench.batch();
    bench.run(batch, 0);
    const auto before = bench.weights();
    data::Batch bad = bench.batch();
    bad.volumes[0][0][3][3][3] = NAN;
    const trainer::StepReport report = bench.run(bad, 1);
    EXPECT_TRUE(report.is_skipped);
    EXPECT_FALSE(std::isfinite(report.loss) && std::isfinite(report.grad_norm));
    for (const auto& [name, tensor] : bench.weights())
      EXPECT_TRUE(at::equal(tensor, before.at(name))) << name;
    EXPECT_EQ(bench.optimizer().num_updates(), 1);
    EXPECT_FALSE(bench.run(batch, 2).is_skipped);
  }
}

TEST(TrainStep, ANumberOfOneRankThatIsNotFiniteChangesNothingOnAny) {
  for (const std::string recompute : {"\"none\"", "\"blocks\"", "\"stages\""})
    on_thread_ranks(2, [&](dist::ProcessGroup& group) {
      StepBench bench({{"model.batch_norm", "\"sync\""},
                       {"adapt.method", "\"full\""},
                       {"precision.recompute", recompute}},
                      &group);
      const data::Batch batch = bench.batch();
      EXPECT_FALSE(bench.run(batch, 0).is_skipped);
      const auto before = bench.weights();
      data::Batch bad = bench.batch();
      if (group.rank() == 1) bad.volumes[0][0][3][3][3] = NAN;
      EXPECT_TRUE(bench.run(bad, 1).is_skipped);
      expect_same(bench.weights(), before);
      EXPECT_FALSE(bench.run(batch, 2).is_skipped);
      for (const auto& [name, tensor] : bench.weights())
        if (name.ends_with("num_batches_tracked")) {
          EXPECT_EQ(tensor.item<std::int64_t>(), 2) << name;
        }
    });
}

TEST(TrainStep, ARankThatFailsAloneBetweenGathersIsHeardByAll) {
  for (const int failing : {0, 1}) {
    std::array<std::string, 2> messages;
    on_thread_ranks(2, [&](dist::ProcessGroup& group) {
      StepBench bench({{"model.batch_norm", "\"sync\""}}, &group);
      data::Batch batch = bench.batch();
      EXPECT_FALSE(bench.run(batch, 0).is_skipped);
      if (group.rank() == failing) batch.volumes = batch.volumes.squeeze(1);
      try {
        bench.run(batch, 1);
      } catch (const dist::AgreedError& error) {
        messages[static_cast<std::size_t>(group.rank())] = error.what();
      }
    });
    EXPECT_NE(messages[0].find(str("rank ", failing, " of 2: volumes must be")), std::string::npos)
        << messages[0];
    EXPECT_EQ(messages[0], messages[1]);
  }
}

TEST(TrainStep, MergedExecutionTakesTheStepsOfTwoPaths) {
  const auto weights_after = [](const std::string& execution) {
    StepBench bench({{"precision.compute", "\"float64\""},
                     {"adapt.method", "\"peft\""},
                     {"adapt.execution", execution}});
    const data::Batch batch = bench.batch();
    for (std::int64_t step = 0; step < 3; ++step) bench.run(batch, step);
    return bench.weights();
  };
  expect_near(weights_after("\"merged\""), weights_after("\"two_path\""), 1e-11);
}

TEST(TrainStep, LogScaleStaysBelowItsMaximum) {
  StepBench bench({{"loss.scale_max", "30"}, {"optimizer.lr_scale", "0.01"}});
  const data::Batch batch = bench.batch();
  const auto after_step_from = [&](double scale) {
    {
      const at::NoGradGuard no_grad;
      bench.model()->log_scale().fill_(std::log(scale));
    }
    bench.run(batch);
    return bench.model()->log_scale().item<double>();
  };
  EXPECT_NEAR(after_step_from(45), std::log(30), 1e-6);  // float32
  // Below the maximum one step moves it by the learning rate at most.
  for (const double scale : {29.0, 14.0, 0.5}) {
    const double moved = after_step_from(scale);
    EXPECT_LE(moved, std::log(30) + 1e-6);
    EXPECT_NEAR(moved, std::log(scale), 0.011) << scale;
    EXPECT_NE(moved, std::log(scale)) << scale;
  }
}

TEST(TrainStep, ATemperatureThatDoesNotLearnStays) {
  StepBench bench({{"loss.temperature_learnable", "false"}, {"loss.temperature_init", "0.2"}});
  const data::Batch batch = bench.batch();
  for (std::int64_t step = 0; step < 3; ++step)
    EXPECT_NEAR(bench.run(batch, step).temperature, 0.2, 1e-7);
}

// The gradient is linear in the weight w, so the square of its norm is a parabola in w.
TEST(TrainStep, PhenotypeLossEntersTheGradientWithItsWeight) {
  std::array<double, 4> squares{};
  for (std::size_t i = 0; i < squares.size(); ++i) {
    StepBench bench({{"adapt.method", "\"full\""},
                     {"precision.compute", "\"float64\""},
                     {"loss.phenotype_weight", str(i + 1)}});
    squares[i] = std::pow(bench.run(bench.batch()).grad_norm, 2);
  }
  const double second = squares[0] - 2 * squares[1] + squares[2];
  const double third = squares[3] - 3 * squares[2] + 3 * squares[1] - squares[0];
  EXPECT_GT(second, 1e-3 * squares[0]);
  EXPECT_NEAR(third, 0, 1e-9 * squares[3]);
}

// The loop is steps one by one: batch, learning rate and key of step i follow from i alone.
TEST(TrainStep, StepsByHandAreTheRun) {
  const Settings settings{{"adapt.method", "\"peft\""},       {"adapt.image.dropout", "0.3"},
                          {"schedule.warmup_steps", "2"},     {"schedule.max_steps", "7"},
                          {"optimizer.lr", "1e-2"},           {"loss.phenotype_weight", "0.7"},
                          {"data.augment.noise_sigma", "0.1"}};
  const TemporaryFolder folder;
  const auto self = dist::make_self_group();
  const RunRecord run = run_once(tiny_run(folder.path(), settings), *self);
  StepBench bench(settings);
  ASSERT_EQ(run.losses.size(), 7U);
  for (std::int64_t step = 0; step < 7; ++step) {
    const double warm_up = static_cast<double>(step + 1) / 2;
    const double cosine = 0.5 * (1 + std::cos(M_PI * static_cast<double>(step - 2) / 5));
    const trainer::StepReport report =
        bench.run(bench.batch(step / 3, step % 3), step, step < 2 ? warm_up : cosine);
    EXPECT_EQ(report.loss, run.losses[static_cast<std::size_t>(step)]) << "step " << step;
    EXPECT_DOUBLE_EQ(report.loss, report.contrastive_loss + 0.7 * report.phenotype_loss);
  }
  expect_near(bench.weights(), run.weights, 1e-12);
}

TEST(TrainStep, DropoutIsKeyedByStepNotByHistory) {
  const Settings settings{
      {"adapt.method", "\"peft\""}, {"adapt.image.dropout", "0.5"}, {"adapt.train_heads", "true"}};
  // Factors B start at zero, so dropout shows from the second step on.
  const auto second_loss = [&](std::int64_t key, int draws) {
    StepBench bench(settings);
    const data::Batch batch = bench.batch();
    bench.run(batch, 0);
    for (int i = 0; i < draws; ++i) static_cast<void>(at::rand({10}));
    bench.run(batch, key);
    return bench.run(batch, key).loss;
  };
  EXPECT_EQ(second_loss(1, 0), second_loss(1, 3));
  EXPECT_NE(second_loss(1, 0), second_loss(2, 0));
}

}  // namespace
}  // namespace triphase::test
