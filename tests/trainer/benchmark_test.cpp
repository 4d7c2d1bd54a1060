// SPDX-License-Identifier: Apache-2.0
// Benchmarks are not held to a time; what they count and name must be right.
#include "trainer/benchmark.hpp"

#include "dist/runtime.hpp"
#include "trainer/bench_data.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/randn.h>

#include <chrono>
#include <map>

#include "models/adapter_plan.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/operator_times.hpp"

namespace triphase::test {
namespace {

trainer::StepBenchmarkOptions tiny_step(const std::string& method) {
  trainer::StepBenchmarkOptions options;
  options.preset = "merlin_tiny";
  options.method = method;
  options.pairs = 2;
  options.volume_shape = {16, 16, 12};
  options.report_tokens = 12;
  options.iterations = 2;
  return options;
}

std::int64_t num_trainable(const std::string& method) {
  models::TwoTower model(models::model_preset("merlin_tiny"));
  models::AdaptOptions adapt;
  adapt.method = method;
  adapt.image.rank = adapt.text.rank = 2;
  return models::plan_adapters(model, adapt).num_trainable;
}

void expect_step_figures(const Json& figures, const std::string& method, int num_ranks) {
  EXPECT_EQ(figures.at("preset"), "merlin_tiny");
  EXPECT_EQ(figures.at("method"), method);
  EXPECT_EQ(figures.at("pairs"), 2);
  EXPECT_EQ(figures.at("num_ranks"), num_ranks);
  EXPECT_EQ(figures.at("bytes_reduced"), 4 * num_trainable(method));
  EXPECT_GT(figures.at("reduce_seconds").get<double>(), 0);
  double sum = 0;
  for (const char* phase : {"forward", "loss", "backward", "reduce", "optimizer"}) {
    const double seconds = figures.at("seconds").at(phase).get<double>();
    EXPECT_GT(seconds, 0) << phase;
    sum += seconds;
  }
  EXPECT_EQ(figures.at("seconds").size(), 6U);
  const double step = figures.at("seconds").at("step").get<double>();
  EXPECT_GT(step, sum / 2);  // of two steps the median is the longer one, phase by phase
  EXPECT_DOUBLE_EQ(figures.at("pairs_per_second").get<double>(), 2 * num_ranks / step);
}

TEST(BenchStep, CountsBytesAndNamesEveryPhase) {
  const auto self = dist::make_self_group();
  for (const char* method : {"full", "peft"})
    expect_step_figures(trainer::bench_step(tiny_step(method), *self), method, 1);
}

TEST(BenchStep, MeasuresOneTowerAloneInEveryMode) {
  const auto self = dist::make_self_group();
  std::int64_t bytes_of_towers = 0;
  for (const char* part : {"image", "text"}) {
    trainer::StepBenchmarkOptions options = tiny_step("full");
    options.part = part;
    options.batch_norm = "local";
    options.precision.memory_format = "channels_last_3d";
    options.precision.recompute = "blocks";
    const Json figures = trainer::bench_step(options, *self);
    EXPECT_EQ(figures.at("part"), part);
    EXPECT_GT(figures.at("peak_rss_mib").get<double>(), 10);
    bytes_of_towers += figures.at("bytes_reduced").get<std::int64_t>();
  }
  EXPECT_EQ(bytes_of_towers, 4 * (num_trainable("full") - 1));  // the log-scale belongs to neither
}

/// at::conv3d calls operators that call operators.
TEST(OperatorTimes, HoldNoSecondTwiceAndBeginAnewWhenCleared) {
  at::set_num_threads(1);
  const at::Tensor volumes = at::randn({1, 8, 20, 20, 20}), weight = at::randn({8, 8, 3, 3, 3});
  trainer::OperatorTimes watch;
  for (int round = 0; round < 2; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 5; ++i) static_cast<void>(at::conv3d(volumes, weight));
    const std::chrono::duration<double> all = std::chrono::steady_clock::now() - begin;
    double sum = 0;
    std::int64_t calls = 0;
    for (const trainer::OperatorTime& one : watch.times()) {
      sum += one.seconds;
      if (one.name == "aten::conv3d") calls += one.calls;
    }
    EXPECT_GT(sum, 0);
    EXPECT_LE(sum, all.count());
    EXPECT_EQ(calls, 5);
    watch.clear();
  }
  EXPECT_TRUE(watch.times().empty());
}

TEST(BenchStep, TellsEveryOperatorsOwnTimeWhenAsked) {
  at::set_num_threads(1);
  const auto self = dist::make_self_group();
  trainer::StepBenchmarkOptions options = tiny_step("full");
  EXPECT_FALSE(trainer::bench_step(options, *self).contains("operators"));
  options.with_operators = true;
  const Json figures = trainer::bench_step(options, *self);
  double last = 1e9;
  std::map<std::string, std::int64_t> calls;
  for (const Json& one : figures.at("operators")) {
    const double seconds = one.at("seconds").get<double>();
    EXPECT_GE(seconds, 0);
    EXPECT_LE(seconds, last) << "the longest first";
    last = seconds;
    calls[one.at("name").get<std::string>()] = one.at("calls").get<std::int64_t>();
  }
  EXPECT_EQ(calls["aten::convolution_backward"], calls["aten::convolution"]);
  EXPECT_GT(calls["aten::convolution"], 4);
  EXPECT_GT(calls["aten::_fused_adamw_"], 0);
}

TEST(BenchStep, RunsOnSeveralRanksAndInBfloat16) {
  at::set_num_threads(1);
  on_thread_ranks(2, [](dist::ProcessGroup& group) {
    trainer::StepBenchmarkOptions options = tiny_step("peft");
    options.batch_norm = "sync";
    options.precision.compute = "bfloat16";
    expect_step_figures(trainer::bench_step(options, group), "peft", 2);
  });
}

TEST(BenchData, FiguresHangTogetherOnAnyNumberOfRanks) {
  for (const int num_ranks : {1, 2, 3})
    on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
      trainer::DataBenchmarkOptions options;
      options.cache = tiny_cache().cache().string();
      options.batch_size = 4;
      options.num_workers = 2;
      options.passes = 1;
      options.steps = 3;
      options.step_seconds_per_volume = 1e-3;
      const Json figures = trainer::bench_data(options, group);
      EXPECT_EQ(figures.at("volumes"), 30);
      EXPECT_EQ(figures.at("num_ranks"), num_ranks);
      EXPECT_EQ(figures.at("stored_bytes_per_volume"), 16 * 16 * 12 * 2);
      const double pread = figures.at("pread").at("milliseconds_per_volume").get<double>();
      const double read = figures.at("read").at("milliseconds_per_volume").get<double>();
      EXPECT_GT(pread, 0);
      EXPECT_NEAR(figures.at("read_over_pread").get<double>(), pread / read, 1e-9);
      const Json& loader = figures.at("loader");
      EXPECT_NEAR(loader.at("volumes_per_second").get<double>() * loader.at("seconds").get<double>(),
                  30, 1e-9);
      const double share = figures.at("wait").at("share").get<double>();
      EXPECT_GE(share, 0);
      EXPECT_LT(share, 1);
    });
  on_thread_ranks(2, [](dist::ProcessGroup& group) {
    expect_error<dist::AgreedError>(
        [&] { static_cast<void>(trainer::bench_data({.cache = "nowhere"}, group)); },
        ExitCode::kMissingInput, {"nowhere"});
  });
}

}  // namespace
}  // namespace triphase::test
