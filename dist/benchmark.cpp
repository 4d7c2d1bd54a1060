// SPDX-License-Identifier: Apache-2.0
#include "dist/benchmark.hpp"

#include "base/error.hpp"
#include "dist/global_contrastive_loss.hpp"

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

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

namespace triphase::dist {
namespace {

using Clock = std::chrono::steady_clock;

double largest(ProcessGroup& group, double value) {
  return group.all_reduce(at::full({1}, value, at::kDouble), ReduceOp::kMax)->wait().item<double>();
}

double sum_of(ProcessGroup& group, double value) {
  return group.all_reduce(at::full({1}, value, at::kDouble), ReduceOp::kSum)->wait().item<double>();
}

/// Median of `iterations` runs after one that does not count; each run is as slow as its slowest
/// rank.
double median_seconds(ProcessGroup& group, int iterations, const std::function<void()>& run) {
  run();
  std::vector<double> seconds;
  for (int i = 0; i < iterations; ++i) {
    group.barrier();
    const auto start = Clock::now();
    run();
    seconds.push_back(largest(group, std::chrono::duration<double>(Clock::now() - start).count()));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

at::Tensor unit_rows(std::int64_t rows, std::int64_t width, std::uint64_t seed) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const at::Tensor values = at::randn({rows, width}, generator, at::kFloat);
  return (values / at::linalg_vector_norm(values, 2, {1}, true)).requires_grad_();
}

}  // namespace

std::vector<CollectiveTiming> bench_collectives(ProcessGroup& group,
                                                const std::vector<std::int64_t>& sizes_bytes,
                                                int iterations) {
  TRIPHASE_CHECK(ConfigError, iterations > 0, "iterations is ", iterations, ", expected 1 or more");
  const std::int64_t n = group.num_ranks();
  const double share = static_cast<double>(n - 1) / static_cast<double>(n);
  std::vector<CollectiveTiming> timings;
  for (const std::int64_t size : sizes_bytes) {
    const std::int64_t row = std::max<std::int64_t>(1, (size + 4 * n - 1) / (4 * n));
    at::Tensor whole = at::zeros({n * row}, at::kFloat);
    const at::Tensor part = at::zeros({row}, at::kFloat);
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

LossTiming bench_loss(ProcessGroup& group, std::int64_t pairs_per_rank, std::int64_t width,
                      int iterations) {
  TRIPHASE_CHECK(ConfigError, iterations > 0, "iterations is ", iterations, ", expected 1 or more");
  const auto seed = static_cast<std::uint64_t>(group.rank());
  const at::Tensor image = unit_rows(pairs_per_rank, width, 2 * seed + 1);
  const at::Tensor text = unit_rows(pairs_per_rank, width, 2 * seed + 2);
  const at::Tensor log_scale = at::full({}, std::log(1 / 0.07), at::kFloat).requires_grad_();
  LossTiming timing;
  timing.global_pairs = pairs_per_rank * group.num_ranks();
  timing.tiled_seconds = median_seconds(group, iterations, [&] {
    const at::Tensor loss = global_contrastive_loss(image, text, log_scale, group);
    loss.backward();
    timing.tiled_loss = loss.item<double>();
  });
  timing.dense_seconds = median_seconds(group, iterations, [&] {
    const at::Tensor loss = dense_contrastive_loss(image, text, log_scale, group);
    loss.backward();
    timing.dense_loss = sum_of(group, loss.item<double>());
  });
  return timing;
}

}  // namespace triphase::dist
