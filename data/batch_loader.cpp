// SPDX-License-Identifier: Apache-2.0
#include "data/batch_loader.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>
#include <variant>

#include "base/error.hpp"
#include "data/augment.hpp"

namespace triphase::data {
namespace {

// What the random numbers of one sample are for.
constexpr std::uint64_t kVolumePurpose = 0x766f6c, kTextPurpose = 0x747874;  // "vol", "txt"

void check_options(const Cache& cache, const BatchLoaderOptions& options) {
  TRIPHASE_CHECK(ConfigError, options.batch_size >= 1, "the batch size is ", options.batch_size,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError, options.num_workers >= 1, "data.workers is ", options.num_workers,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError, options.prefetch_batches >= 1, "the number of prefetched batches is ",
                 options.prefetch_batches, ", expected at least 1.");
  const auto size = static_cast<std::int64_t>(cache.entries().size());
  for (const std::int64_t index : options.sample_indices)
    TRIPHASE_CHECK(InternalError, index >= 0 && index < size, "sample index ", index,
                   " is outside the cache's ", size, " samples.");
}

}  // namespace

struct BatchLoader::State {
  const Cache& cache;
  const BatchLoaderOptions options;
  const std::int64_t num_batches;

  std::mutex mutex;  ///< guards the four that follow
  std::condition_variable_any changed;
  std::int64_t next_to_make = 0;
  std::int64_t next_to_give = 0;
  std::map<std::int64_t, std::variant<Batch, std::exception_ptr>> ready;
  double waited_seconds = 0;
  std::vector<std::jthread> workers;  ///< last, so that they end before what they use

  State(const Cache& the_cache, BatchLoaderOptions the_options);
  ~State() {
    for (std::jthread& worker : workers)
      worker.request_stop();  // all of them, before the first join
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  void work(const std::stop_token& stop);
  [[nodiscard]] Batch make_batch(std::int64_t number, const std::stop_token& stop) const;
  void fill_sample(std::int64_t index, float* volume) const;
  [[nodiscard]] KeyedRandom random(std::int64_t index, std::uint64_t purpose) const {
    return {options.seed, static_cast<std::uint64_t>(options.epoch),
            static_cast<std::uint64_t>(index), purpose};
  }
};

BatchLoader::State::State(const Cache& the_cache, BatchLoaderOptions the_options)
    : cache(the_cache),
      options(std::move(the_options)),
      num_batches(
          (static_cast<std::int64_t>(options.sample_indices.size()) + options.batch_size - 1) /
          options.batch_size) {
  const auto useful = std::min(
      {static_cast<std::int64_t>(options.num_workers), options.prefetch_batches, num_batches});
  for (std::int64_t i = 0; i < useful; ++i)
    workers.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

void BatchLoader::State::work(const std::stop_token& stop) {
  while (true) {
    std::unique_lock lock(mutex);
    const bool go_on = changed.wait(lock, stop, [&] {
      return next_to_make >= num_batches || next_to_make < next_to_give + options.prefetch_batches;
    });
    if (!go_on || next_to_make >= num_batches) return;
    const std::int64_t number = next_to_make++;
    lock.unlock();
    std::variant<Batch, std::exception_ptr> made;
    try {
      made = make_batch(number, stop);
    } catch (...) {
      made = std::current_exception();
    }
    if (stop.stop_requested()) return;
    lock.lock();
    ready.emplace(number, std::move(made));
    lock.unlock();
    changed.notify_all();
  }
}

void BatchLoader::State::fill_sample(std::int64_t index, float* volume) const {
  cache.read_volume(index, volume);
  const PreprocessOptions& preprocess = cache.spec().preprocess;
  augment_volume(options.augment, preprocess.volume_shape, preprocess.output_range,
                 random(index, kVolumePurpose), volume);
}

Batch BatchLoader::State::make_batch(std::int64_t number, const std::stop_token& stop) const {
  const std::int64_t begin = number * options.batch_size;
  const std::int64_t size = std::min(
      options.batch_size, static_cast<std::int64_t>(options.sample_indices.size()) - begin);
  const Shape3& shape = cache.spec().preprocess.volume_shape;
  const auto num_findings = static_cast<std::int64_t>(cache.findings().size());

  std::vector<std::vector<std::int64_t>> texts;
  std::size_t longest = 0;
  for (std::int64_t b = 0; b < size; ++b) {
    const std::int64_t index = options.sample_indices[static_cast<std::size_t>(begin + b)];
    texts.push_back(augment_tokens(options.augment,
                                   cache.entries()[static_cast<std::size_t>(index)].tokens,
                                   options.period_token_id, random(index, kTextPurpose)));
    longest = std::max(longest, texts.back().size());
  }
  const auto length = static_cast<std::int64_t>(longest);
  Batch batch{.volumes = at::empty({size, 1, shape[0], shape[1], shape[2]}, at::kFloat),
              .tokens = at::full({size, length}, options.pad_id, at::kLong),
              .mask = at::zeros({size, length}, at::kLong),
              .labels = at::empty({size, num_findings}, at::kChar),
              .index = at::empty({size}, at::kLong)};
  for (std::int64_t b = 0; b < size && !stop.stop_requested(); ++b) {
    const std::int64_t index = options.sample_indices[static_cast<std::size_t>(begin + b)];
    const CacheEntry& entry = cache.entries()[static_cast<std::size_t>(index)];
    fill_sample(index,
                batch.volumes.mutable_data_ptr<float>() + b * shape[0] * shape[1] * shape[2]);
    const auto& text = texts[static_cast<std::size_t>(b)];
    std::copy(text.begin(), text.end(), batch.tokens.mutable_data_ptr<std::int64_t>() + b * length);
    std::fill_n(batch.mask.mutable_data_ptr<std::int64_t>() + b * length, text.size(), 1);
    std::copy(entry.labels.begin(), entry.labels.end(),
              batch.labels.mutable_data_ptr<std::int8_t>() + b * num_findings);
    batch.index.mutable_data_ptr<std::int64_t>()[b] = index;
  }
  return batch;
}

BatchLoader::BatchLoader(const Cache& cache, BatchLoaderOptions options) {
  check_options(cache, options);
  state_ = std::make_unique<State>(cache, std::move(options));
}

BatchLoader::~BatchLoader() = default;

std::optional<Batch> BatchLoader::next() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.next_to_give >= state.num_batches) return std::nullopt;
  const auto started = std::chrono::steady_clock::now();
  state.changed.wait(lock, [&] { return state.ready.contains(state.next_to_give); });
  state.waited_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  auto node = state.ready.extract(state.next_to_give);
  ++state.next_to_give;
  lock.unlock();
  state.changed.notify_all();
  if (const auto* error = std::get_if<std::exception_ptr>(&node.mapped()))
    std::rethrow_exception(*error);
  return std::get<Batch>(std::move(node.mapped()));
}

double BatchLoader::waited_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->waited_seconds;
}

}  // namespace triphase::data
