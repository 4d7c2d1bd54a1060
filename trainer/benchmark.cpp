// SPDX-License-Identifier: Apache-2.0
#include "trainer/benchmark.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sum.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>

#include "base/random.hpp"
#include "dist/global_contrastive_loss.hpp"
#include "dist/gradient_reducer.hpp"
#include "dist/runtime.hpp"
#include "models/adapter_plan.hpp"
#include "models/files/weights_file.hpp"
#include "models/weights.hpp"
#include "trainer/build_model.hpp"
#include "trainer/compute_scope.hpp"
#include "trainer/loop/tower_passes.hpp"
#include "trainer/loop/train_step.hpp"
#include "trainer/operator_times.hpp"
#include "trainer/optim/optimizer.hpp"
#include "trainer/torch_setup.hpp"

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

models::TwoTower benchmark_model(const StepBenchmarkOptions& options, dist::ProcessGroup& group) {
  models::TwoTower model(models::model_preset(options.preset));
  models::initialise_weights(model, 0);
  models::AdaptOptions adapt;
  adapt.method = options.method;
  adapt.image.rank = adapt.text.rank = options.rank;
  models::apply_adapters(model, models::plan_adapters(model, adapt), 0);
  set_execution(model, options.batch_norm, options.precision.recompute, &group);
  RunConfig config;
  config.precision = options.precision;
  apply_precision(model, config, options.device);
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

void reset_gpu_peak(const at::Device& device) {
  if (device.is_cuda()) c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

double peak_gpu_mib(const at::Device& device) {
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return static_cast<double>(stats.allocated_bytes[0].peak) / (1 << 20);
}

/// Others on every rank.
data::Batch synthetic_pairs(const StepBenchmarkOptions& options, int rank) {
  at::manual_seed(static_cast<std::uint64_t>(rank));
  const auto& shape = options.volume_shape;
  data::Batch batch;
  // Copied to a GPU within the step, as a batch of the loader is.
  batch.volumes = at::randn({options.pairs, 1, shape[0], shape[1], shape[2]});
  if (options.device.is_cuda()) batch.volumes = batch.volumes.pin_memory();
  batch.tokens = at::randint(3, 250, {options.pairs, options.report_tokens}, at::kLong);
  batch.mask = at::ones({options.pairs, options.report_tokens}, at::kLong);
  batch.index = at::arange(options.pairs, at::kLong);
  return batch;
}

/// Passes and loss of one tower alone.
void run_tower(models::TwoTower& model, const data::Batch& batch,
               const StepBenchmarkOptions& options, dist::GradientReducer& reducer,
               PhaseTimes& times) {
  const at::Device device = options.device;
  const ComputeScope compute(options.precision, device.type());
  const at::Tensor rows =
      options.part == "image"
          ? model->image_tower()
                ->forward(model_input(batch.volumes, options.precision, device), false)
                .projection
          : model->text_tower()->forward(batch.tokens.to(device), batch.mask.to(device)).projection;
  finish_on(device);
  times.end("forward");
  const at::Tensor loss = rows.sum();
  times.end("loss");
  reducer.last_pass([&] { loss.backward(); });
  finish_on(device);
  times.end("backward");
}

void run_towers(models::TwoTower& model, const data::Batch& batch, TowerPasses& passes,
                dist::ProcessGroup& group, dist::GradientReducer& reducer, PhaseTimes& times) {
  const models::Embeddings rows = passes.encode(batch, 0);
  finish_on(model->device());
  times.end("forward");
  dist::global_contrastive_loss(rows.image, rows.text, model->log_scale(), group).backward();
  times.end("loss");
  reducer.passes([&] { passes.backward([&] { reducer.arm(); }); });
  finish_on(model->device());
  times.end("backward");
}

void save_pass(const StepBenchmarkOptions& options, models::TwoTower& model, const data::Batch& batch,
               const models::NamedTensors& parameters, const dist::ProcessGroup& group) {
  models::NamedTensors tensors{{"batch.volumes", batch.volumes.contiguous()},
                               {"batch.tokens", batch.tokens},
                               {"batch.mask", batch.mask}};
  for (const auto& [name, tensor] : models::base_state(model))
    tensors.emplace_back("weights." + name, tensor.detach().contiguous());
  for (const auto& [name, tensor] : parameters)
    tensors.emplace_back("gradient." + name, tensor.grad().contiguous());
  models::write_safetensors(options.save_to / str("rank-", group.rank(), ".safetensors"), tensors);
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
  models::TwoTower model = benchmark_model(options, group);
  const models::NamedTensors parameters = measured_parameters(model, options.part);
  dist::GradientReducer reducer(group, parameters, reducer_options(options.distributed));
  Optimizer optimizer(parameters, {});
  const data::Batch batch = synthetic_pairs(options, group.rank());
  TowerPasses passes(model, {.micro_pairs = options.micro_pairs, .precision = options.precision});

  PhaseTimes times;
  dist::ReduceReport reduced;
  const auto pass = [&] {
    reducer.zero_gradients();
    if (options.part == "both")
      run_towers(model, batch, passes, group, reducer, times);
    else
      run_tower(model, batch, options, reducer, times);
    reduced = reducer.reduce();
    times.end("reduce");
  };
  const auto step = [&] {
    times.start();
    pass();
    optimizer.update(1.0);
    finish_on(options.device);
    times.end("optimizer");
    times.end_step();
  };
  if (!options.save_to.empty()) {
    model->eval();
    pass();
    model->train();
    dist::agree_on(group, [&] { save_pass(options, model, batch, parameters, group); });
  }
  step();  // warms up
  reset_gpu_peak(options.device);
  times = PhaseTimes();
  for (std::int64_t i = 0; i < options.iterations; ++i) step();
  Json json{{"preset", options.preset},         {"part", options.part},
            {"method", options.method},         {"batch_norm", options.batch_norm},
            {"pairs", options.pairs},           {"micro_pairs", options.micro_pairs},
            {"num_ranks", group.num_ranks()},   {"threads", at::get_num_threads()},
            {"peak_rss_mib", peak_rss_mib()}};
  json["device"] = describe_device(options.device);
  if (options.device.is_cuda()) json["peak_gpu_mib"] = peak_gpu_mib(options.device);
  json["seconds"] = times.medians();
  json["bytes_reduced"] = reduced.bytes;
  json["reduce_seconds"] = reduced.seconds;
  json["pairs_per_second"] = static_cast<double>(options.pairs * group.num_ranks()) /
                             json["seconds"]["step"].get<double>();
  if (options.with_operators) json["operators"] = operators_of(step);
  return json;
}

}  // namespace triphase::trainer
