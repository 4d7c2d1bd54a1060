// SPDX-License-Identifier: Apache-2.0
#include "trainer/bench_data.hpp"

#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "base/random.hpp"
#include "data/batch_loader.hpp"
#include "data/cache.hpp"
#include "dist/runtime.hpp"

namespace triphase::trainer {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double reduced(dist::ProcessGroup& group, double value, dist::ReduceOp op) {
  return group.all_reduce(at::full({1}, value, at::kDouble), op)->wait().item<double>();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// This rank's samples in a random order; at least one.
std::vector<std::int64_t> own_samples(const data::Cache& cache, const dist::ProcessGroup& group) {
  std::vector<std::int64_t> own;
  for (const std::int64_t index :
       keyed_permutation(static_cast<std::int64_t>(cache.entries().size()), KeyedRandom{0}))
    if (index % group.num_ranks() == group.rank()) own.push_back(index);
  if (own.empty()) own.push_back(0);
  return own;
}

struct ReadTimes {
  double pread = 0;  ///< seconds a volume
  double read = 0;
  double bytes = 0;  ///< of a volume as it is stored
};

ReadTimes time_reading(const data::Cache& cache, std::vector<std::int64_t> samples,
                       const DataBenchmarkOptions& options) {
  samples.resize(std::min(samples.size(), static_cast<std::size_t>(options.max_volumes)));
  const data::Shape3& shape = cache.spec().preprocess.volume_shape;
  std::vector<float> voxels(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
  std::vector<std::byte> bytes;
  std::vector<double> pread, read, sizes;
  for (std::int64_t pass = 0; pass <= options.passes; ++pass)
    for (const std::int64_t sample : samples) {
      bytes.resize(std::max(bytes.size(), static_cast<std::size_t>(cache.stored_bytes(sample))));
      const auto start = Clock::now();
      cache.read_stored(sample, bytes.data());
      const double fetched = seconds_since(start);
      cache.read_volume(sample, voxels.data());
      if (pass == 0) continue;
      pread.push_back(fetched);
      read.push_back(seconds_since(start) - fetched);
      sizes.push_back(static_cast<double>(cache.stored_bytes(sample)));
    }
  return {median(std::move(pread)), median(std::move(read)), median(std::move(sizes))};
}

data::BatchLoaderOptions loader_options(const DataBenchmarkOptions& options) {
  data::BatchLoaderOptions loader;
  loader.batch_size = options.batch_size;
  loader.num_workers = options.num_workers;
  return loader;
}

/// @return seconds for all samples
double time_loader(const data::Cache& cache, const std::vector<std::int64_t>& samples,
                   const DataBenchmarkOptions& options) {
  data::BatchLoaderOptions settings = loader_options(options);
  settings.sample_indices = samples;
  const auto start = Clock::now();
  data::BatchLoader loader(cache, std::move(settings));
  while (loader.next()) {
  }
  return seconds_since(start);
}

struct WaitTimes {
  double first = 0;
  double rest = 0;
  double whole = 0;  ///< from the first batch on
};

WaitTimes time_waiting(const data::Cache& cache, const std::vector<std::int64_t>& samples,
                       const DataBenchmarkOptions& options) {
  data::BatchLoaderOptions settings = loader_options(options);
  for (std::int64_t i = 0; i < (options.steps + 1) * options.batch_size; ++i)
    settings.sample_indices.push_back(samples[static_cast<std::size_t>(i) % samples.size()]);
  const double step_seconds =
      options.step_seconds_per_volume * static_cast<double>(options.batch_size);
  data::BatchLoader loader(cache, std::move(settings));
  WaitTimes times;
  auto batch = loader.next();
  times.first = loader.waited_seconds();
  const auto start = Clock::now();
  for (std::int64_t step = 0; step < options.steps; ++step) {
    // Busy, as a step is: the loader's threads have to make do with what is left.
    for (const auto begin = Clock::now(); seconds_since(begin) < step_seconds;) {
    }
    batch = loader.next();
  }
  times.whole = seconds_since(start);
  times.rest = loader.waited_seconds() - times.first;
  return times;
}

Json speed_json(double seconds, double bytes) {
  return Json{{"milliseconds_per_volume", seconds * 1e3},
              {"mib_per_second", bytes / (1 << 20) / seconds}};
}

}  // namespace

Json bench_data(const DataBenchmarkOptions& options, dist::ProcessGroup& group) {
  std::unique_ptr<data::Cache> cache;
  std::vector<std::int64_t> samples;
  dist::agree_on(group, [&] {
    cache = std::make_unique<data::Cache>(options.cache);
    samples = own_samples(*cache, group);
  });
  ReadTimes reading;
  WaitTimes waiting;
  double loading = 0;
  group.barrier();
  dist::agree_on(group, [&] { reading = time_reading(*cache, samples, options); });
  dist::agree_on(group, [&] { loading = time_loader(*cache, samples, options); });
  dist::agree_on(group, [&] { waiting = time_waiting(*cache, samples, options); });
  const auto slowest = [&](double value) { return reduced(group, value, dist::ReduceOp::kMax); };
  const double pread = slowest(reading.pread), read = slowest(reading.read);
  const double bytes = slowest(reading.bytes), seconds = slowest(loading);
  const auto volumes = static_cast<std::int64_t>(
      reduced(group, static_cast<double>(samples.size()), dist::ReduceOp::kSum));
  return Json{{"volumes", volumes},
              {"num_ranks", group.num_ranks()},
              {"num_workers", options.num_workers},
              {"batch_size", options.batch_size},
              {"stored_bytes_per_volume", bytes},
              {"pread", speed_json(pread, bytes)},
              {"read", speed_json(read, bytes)},
              {"read_over_pread", pread / read},
              {"loader", {{"seconds", seconds},
                          {"volumes_per_second", static_cast<double>(volumes) / seconds}}},
              {"wait", {{"step_seconds_per_volume", options.step_seconds_per_volume},
                        {"steps", options.steps},
                        {"first_wait_seconds", slowest(waiting.first)},
                        {"share", slowest(waiting.rest / waiting.whole)}}}};
}

}  // namespace triphase::trainer
