// SPDX-License-Identifier: Apache-2.0
#include "trainer/benchmark.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sum.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>

#include "base/random.hpp"
#include "data/batch_loader.hpp"
#include "dist/global_contrastive_loss.hpp"
#include "dist/gradient_reducer.hpp"
#include "models/adapter_plan.hpp"
#include "trainer/build_model.hpp"
#include "trainer/compute_scope.hpp"
#include "trainer/operator_times.hpp"
#include "trainer/optim/optimizer.hpp"

namespace triphase::trainer {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Splits a step into named phases: each call ends the phase since the call before.
class PhaseTimes {
 public:
  void start() { begin_ = last_ = Clock::now(); }
  void end(const std::string& phase) {
    times_[phase].push_back(seconds_since(last_));
    last_ = Clock::now();
  }
  void end_step() { times_["step"].push_back(seconds_since(begin_)); }
  [[nodiscard]] Json medians() const {
    Json json;
    for (const auto& [phase, values] : times_) json[phase] = median(values);
    return json;
  }

 private:
  std::map<std::string, std::vector<double>> times_;
  Clock::time_point begin_;
  Clock::time_point last_;
};

models::TwoTower benchmark_model(const StepBenchmarkOptions& options) {
  models::TwoTower model(models::model_preset(options.preset));
  models::initialise_weights(model, 0);
  models::AdaptOptions adapt;
  adapt.method = options.method;
  adapt.image.rank = adapt.text.rank = options.rank;
  models::apply_adapters(model, models::plan_adapters(model, adapt), 0);
  set_execution(model, options.batch_norm, options.precision.recompute);
  RunConfig config;
  config.precision = options.precision;
  apply_precision(model, config);
  model->train();
  return model;
}

/// What trains in the part that is measured.
models::NamedTensors measured_parameters(models::TwoTower& model, const std::string& part) {
  models::NamedTensors parameters = models::trainable_parameters(model);
  if (part != "both")
    std::erase_if(parameters,
                  [&](const auto& item) { return !item.first.starts_with("encode_" + part); });
  return parameters;
}

double peak_rss_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

struct SyntheticPairs {
  at::Tensor volumes;
  at::Tensor tokens;
  at::Tensor mask;
};

SyntheticPairs synthetic_pairs(const StepBenchmarkOptions& options) {
  const auto& shape = options.volume_shape;
  const at::Tensor volumes = at::randn({options.pairs, 1, shape[0], shape[1], shape[2]});
  return {model_input(volumes, options.precision),
          at::randint(3, 250, {options.pairs, options.report_tokens}, at::kLong),
          at::ones({options.pairs, options.report_tokens}, at::kLong)};
}

/// Forward pass and loss of the measured part.
at::Tensor step_loss(models::TwoTower& model, const SyntheticPairs& pairs, const std::string& part,
                     dist::ProcessGroup& group, PhaseTimes& times) {
  if (part != "both") {
    const at::Tensor rows = part == "image"
                                ? model->image_tower()->forward(pairs.volumes, false).projection
                                : model->text_tower()->forward(pairs.tokens, pairs.mask).projection;
    times.end("forward");
    return rows.sum();
  }
  const models::Embeddings embeddings = model->forward(pairs.volumes, pairs.tokens, pairs.mask);
  times.end("forward");
  return dist::global_contrastive_loss(embeddings.image, embeddings.text, model->log_scale(),
                                       group);
}

Json operators_of(const std::function<void()>& step) {
  const OperatorTimes watch;
  step();
  Json operators = Json::array();
  for (const OperatorTime& time : watch.times())
    operators.push_back({{"name", time.name}, {"calls", time.calls}, {"seconds", time.seconds}});
  return operators;
}

}  // namespace

Json bench_step(const StepBenchmarkOptions& options, dist::ProcessGroup& group) {
  models::TwoTower model = benchmark_model(options);
  const models::NamedTensors parameters = measured_parameters(model, options.part);
  dist::GradientReducer reducer(group, parameters);
  Optimizer optimizer(parameters, {});
  const SyntheticPairs pairs = synthetic_pairs(options);

  PhaseTimes times;
  dist::ReduceReport reduced;
  const auto step = [&] {
    times.start();
    reducer.zero_gradients();
    {
      const ComputeScope compute(options.precision);
      const at::Tensor loss = step_loss(model, pairs, options.part, group, times);
      times.end("loss");
      loss.backward();
      times.end("backward");
    }
    reduced = reducer.reduce();
    times.end("reduce");
    optimizer.update(1.0);
    times.end("optimizer");
    times.end_step();
  };
  step();  // warms up
  times = PhaseTimes();
  for (std::int64_t i = 0; i < options.iterations; ++i) step();
  Json json{{"preset", options.preset},         {"part", options.part},
            {"method", options.method},         {"batch_norm", options.batch_norm},
            {"pairs", options.pairs},           {"num_ranks", group.num_ranks()},
            {"threads", at::get_num_threads()}, {"peak_rss_mib", peak_rss_mib()}};
  json["seconds"] = times.medians();
  json["bytes_reduced"] = reduced.bytes;
  json["pairs_per_second"] = static_cast<double>(options.pairs * group.num_ranks()) /
                             json["seconds"]["step"].get<double>();
  if (options.with_operators) json["operators"] = operators_of(step);
  return json;
}

Json bench_data(const std::string& cache_folder, std::int64_t batch_size, int num_workers) {
  const data::Cache cache(cache_folder);
  data::BatchLoaderOptions options;
  options.sample_indices =
      keyed_permutation(static_cast<std::int64_t>(cache.entries().size()), KeyedRandom{0});
  options.batch_size = batch_size;
  options.num_workers = num_workers;
  const auto begin = Clock::now();
  data::BatchLoader loader(cache, options);
  std::int64_t volumes = 0;
  double bytes = 0;
  while (const auto batch = loader.next()) {
    volumes += batch->volumes.size(0);
    bytes += static_cast<double>(batch->volumes.nbytes());
  }
  const double seconds = seconds_since(begin);
  return Json{{"volumes", volumes},
              {"seconds", seconds},
              {"volumes_per_second", static_cast<double>(volumes) / seconds},
              {"mib_per_second", bytes / (1 << 20) / seconds},
              {"num_workers", num_workers},
              {"batch_size", batch_size}};
}

}  // namespace triphase::trainer
