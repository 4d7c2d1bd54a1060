// SPDX-License-Identifier: Apache-2.0
#include "dist/benchmark.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>

#include "base/error.hpp"
#include "dist/global_contrastive_loss.hpp"

namespace triphase::dist {
namespace {

using Clock = std::chrono::steady_clock;

double largest(ProcessGroup& group, double value) {
  return group.all_reduce(at::full({1}, value, at::kDouble), ReduceOp::kMax)->wait().item<double>();
}

double sum_of(ProcessGroup& group, double value) {
  return group.all_reduce(at::full({1}, value, at::kDouble), ReduceOp::kSum)->wait().item<double>();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// As slow as the slowest rank.
double seconds_of(ProcessGroup& group, const std::function<void()>& run) {
  group.barrier();
  const auto start = Clock::now();
  run();
  return largest(group, std::chrono::duration<double>(Clock::now() - start).count());
}

/// Median of `iterations` runs after one that does not count.
double median_seconds(ProcessGroup& group, int iterations, const std::function<void()>& run) {
  run();
  std::vector<double> seconds;
  for (int i = 0; i < iterations; ++i) seconds.push_back(seconds_of(group, run));
  return median(seconds);
}

/// A line of /proc/self/status, in bytes; 0 where there is none.
double status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kib = 0;
    if (word == name + ":" && status >> kib) return kib * 1024;
  }
  return 0;
}

double peak_device_bytes(const at::Device& device, const std::function<void()>& run) {
  c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(device.type());
  allocator.resetPeakStats(device.index());
  const auto before = allocator.getDeviceStats(device.index()).allocated_bytes[0].current;
  run();
  const auto peak = allocator.getDeviceStats(device.index()).allocated_bytes[0].peak;
  return static_cast<double>(peak - before);
}

/// What a run takes beyond the memory that is resident before it, on the rank that takes most: only
/// a first run tells, as the allocator keeps what was freed. 0 where the system does not let the
/// high-water mark be put back.
double peak_bytes(ProcessGroup& group, const at::Device& device, const std::function<void()>& run) {
  if (!device.is_cpu()) return largest(group, peak_device_bytes(device, run));
  std::ofstream reset("/proc/self/clear_refs");
  reset << 5 << std::flush;  // proc(5): VmHWM becomes VmRSS
  const double before = status_bytes("VmRSS");
  run();
  return largest(group, reset ? status_bytes("VmHWM") - before : 0);
}

at::Tensor unit_rows(std::int64_t rows, std::int64_t width, std::uint64_t seed,
                     const at::Device& device) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const at::Tensor values = at::randn({rows, width}, generator, at::kFloat);
  return (values / at::linalg_vector_norm(values, 2, {1}, true)).to(device).requires_grad_();
}

}  // namespace

std::vector<CollectiveTiming> bench_collectives(ProcessGroup& group,
                                                const std::vector<std::int64_t>& sizes_bytes,
                                                int iterations, const at::Device& device) {
  TRIPHASE_CHECK(ConfigError, iterations > 0, "iterations is ", iterations, ", expected 1 or more");
  const std::int64_t n = group.num_ranks();
  const double share = static_cast<double>(n - 1) / static_cast<double>(n);
  std::vector<CollectiveTiming> timings;
  for (const std::int64_t size : sizes_bytes) {
    const std::int64_t row = std::max<std::int64_t>(1, (size + 4 * n - 1) / (4 * n));
    at::Tensor whole = at::zeros({n * row}, at::TensorOptions(at::kFloat).device(device));
    const at::Tensor part = at::zeros({row}, at::TensorOptions(at::kFloat).device(device));
    const auto time = [&](const char* operation, double factor,
                          const std::function<WorkPtr()>& start) {
      CollectiveTiming timing;
      timing.operation = operation;
      timing.bytes = 4 * n * row;
      timing.seconds =
          median_seconds(group, iterations, [&] { static_cast<void>(start()->wait()); });
      timing.algorithm_bandwidth = static_cast<double>(timing.bytes) / timing.seconds;
      timing.bus_bandwidth = timing.algorithm_bandwidth * factor;
      timings.push_back(timing);
    };
    time("all_reduce", 2 * share, [&] { return group.all_reduce(whole, ReduceOp::kSum); });
    time("all_gather", share, [&] { return group.all_gather(part); });
    time("reduce_scatter", share, [&] { return group.reduce_scatter(whole); });
    time("broadcast", 1, [&] { return group.broadcast(whole, 0); });
  }
  return timings;
}

double copy_bandwidth(ProcessGroup& group, int iterations) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;  // beyond every cache
  const std::vector<std::byte> from(kBytes, std::byte{1});
  std::vector<std::byte> to(kBytes);
  const double seconds =
      median_seconds(group, iterations, [&] { std::memcpy(to.data(), from.data(), kBytes); });
  return static_cast<double>(kBytes) / seconds;
}

at::Tensor dense_contrastive_loss(const at::Tensor& image, const at::Tensor& text,
                                  const at::Tensor& log_scale, ProcessGroup& group) {
  const at::Tensor all_image = gather_with_gradient(image, group);
  const at::Tensor all_text = gather_with_gradient(text, group);
  const std::int64_t b = image.size(0);
  const at::Tensor scale = at::exp(log_scale);
  const at::Tensor labels =
      at::arange(group.rank() * b, (group.rank() + 1) * b, image.options().dtype(at::kLong));
  const at::Tensor by_image =
      at::cross_entropy_loss(scale * at::matmul(image, all_text.t()), labels);
  const at::Tensor by_text =
      at::cross_entropy_loss(scale * at::matmul(text, all_image.t()), labels);
  return (by_image + by_text) / (2.0 * group.num_ranks());
}

LossTiming bench_loss(ProcessGroup& group, const LossBenchmarkOptions& options) {
  TRIPHASE_CHECK(ConfigError, options.iterations > 0, "iterations is ", options.iterations,
                 ", expected 1 or more");
  const auto seed = static_cast<std::uint64_t>(group.rank());
  at::Tensor image = unit_rows(options.pairs_per_rank, options.width, 2 * seed + 1, options.device);
  at::Tensor text = unit_rows(options.pairs_per_rank, options.width, 2 * seed + 2, options.device);
  at::Tensor log_scale = at::full({}, std::log(1 / 0.07), image.options()).requires_grad_();
  LossTiming timing;
  timing.global_pairs = options.pairs_per_rank * group.num_ranks();
  const auto without_gradients = [&](const std::function<at::Tensor()>& loss_of) {
    for (at::Tensor* tensor : {&image, &text, &log_scale}) tensor->mutable_grad().reset();
    const at::Tensor loss = loss_of();
    loss.backward();
    return loss.item<double>();
  };
  const auto tiled = [&] {
    timing.tiled_loss = without_gradients(
        [&] { return global_contrastive_loss(image, text, log_scale, group, {options.tile}); });
  };
  const auto dense = [&] {
    timing.dense_loss = sum_of(group, without_gradients([&] {
                                 return dense_contrastive_loss(image, text, log_scale, group);
                               }));
  };
  timing.tiled_bytes = peak_bytes(group, options.device, tiled);
  if (options.with_dense) timing.dense_bytes = peak_bytes(group, options.device, dense);
  std::vector<double> tiled_seconds, dense_seconds;
  for (int i = 0; i < options.iterations; ++i) {
    tiled_seconds.push_back(seconds_of(group, tiled));
    if (options.with_dense) dense_seconds.push_back(seconds_of(group, dense));
  }
  timing.tiled_seconds = median(tiled_seconds);
  if (options.with_dense) timing.dense_seconds = median(dense_seconds);
  return timing;
}

}  // namespace triphase::dist
