// SPDX-License-Identifier: Apache-2.0
#include "data/batch_loader.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "data/augment.hpp"
#include "data/voxel_codec.hpp"

namespace triphase::data {
namespace {

// What the random numbers of one sample are for.
constexpr std::uint64_t kVolumePurpose = 0x766f6c, kTextPurpose = 0x747874;  // "vol", "txt"

void check_options(const Cache& cache, const BatchLoaderOptions& options) {
  TRIPHASE_CHECK(ConfigError, options.batch_size >= 1, "the batch size is ", options.batch_size,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError, options.num_workers >= 1, "data.workers is ", options.num_workers,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError, options.read_ahead_bytes >= 1, "data.read_ahead_bytes is ",
                 options.read_ahead_bytes, ", expected at least 1.");
  const auto size = static_cast<std::int64_t>(cache.entries().size());
  for (const std::int64_t index : options.sample_indices)
    TRIPHASE_CHECK(InternalError, index >= 0 && index < size, "sample index ", index,
                   " is outside the cache's ", size, " samples.");
  for (const auto* ids : {&options.positive_ids, &options.negative_ids})
    TRIPHASE_CHECK(InternalError, ids->empty() || std::ssize(*ids) == size, "there are ",
                   ids->size(), " ids for ", size, " samples");
}

/// [B] the ids of these samples; undefined when nobody has one.
at::Tensor picked(const std::vector<std::int64_t>& ids, const at::Tensor& index) {
  if (ids.empty()) return {};
  const at::Tensor result = at::empty_like(index);
  const std::int64_t* sample = index.const_data_ptr<std::int64_t>();
  std::transform(sample, sample + index.numel(), result.mutable_data_ptr<std::int64_t>(),
                 [&](std::int64_t i) { return ids[static_cast<std::size_t>(i)]; });
  return result;
}

}  // namespace

struct BatchLoader::State {
  /// A batch whose samples are being read.
  struct Making {
    Batch batch;
    std::int64_t num_left = 0;  ///< samples that are not read yet
    std::exception_ptr error;   ///< of one of them
  };

  const Cache& cache;
  const BatchLoaderOptions options;
  const std::int64_t num_samples;
  const std::int64_t num_batches;
  const std::int64_t read_ahead;  ///< batches

  std::mutex mutex;  ///< guards what follows
  std::condition_variable_any changed;
  std::int64_t next_sample = 0;  ///< to be read, in reading order
  std::int64_t next_to_give = 0;
  std::map<std::int64_t, Making> making;  ///< and what is ready, by number
  std::vector<at::Tensor> pool;           ///< volumes of full batches, also those that are in use
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
  [[nodiscard]] bool may_read() const {
    return next_sample >= num_samples ||
           next_sample / options.batch_size < next_to_give + read_ahead;
  }
  [[nodiscard]] Making start_batch(std::int64_t number);
  [[nodiscard]] at::Tensor take_volumes(std::int64_t size);
  [[nodiscard]] std::int64_t sample_index(std::int64_t place) const {
    return options.sample_indices[static_cast<std::size_t>(place)];
  }
  void fill_volume(std::int64_t index, at::Tensor& volumes, std::int64_t row) const;
  [[nodiscard]] bool augments_volumes() const;
  [[nodiscard]] KeyedRandom random(std::int64_t index, std::uint64_t purpose) const {
    return {options.seed, static_cast<std::uint64_t>(options.epoch),
            static_cast<std::uint64_t>(index), purpose};
  }
};

namespace {

std::int64_t volume_voxels(const Cache& cache) {
  const Shape3& shape = cache.spec().preprocess.volume_shape;
  return shape[0] * shape[1] * shape[2];
}

/// How many batches may be ready or in the making.
std::int64_t batches_ahead(const Cache& cache, const BatchLoaderOptions& options) {
  const std::int64_t volume = volume_voxels(cache) * (options.as_bfloat16 ? 2 : 4);
  return std::max<std::int64_t>(1, options.read_ahead_bytes / volume / options.batch_size);
}

}  // namespace

BatchLoader::State::State(const Cache& the_cache, BatchLoaderOptions the_options)
    : cache(the_cache),
      options(std::move(the_options)),
      num_samples(static_cast<std::int64_t>(options.sample_indices.size())),
      num_batches((num_samples + options.batch_size - 1) / options.batch_size),
      read_ahead(batches_ahead(cache, options)) {
  const auto useful = std::min<std::int64_t>(options.num_workers, num_samples);
  for (std::int64_t i = 0; i < useful; ++i)
    workers.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

void BatchLoader::State::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex);
  while (changed.wait(lock, stop, [&] { return may_read(); })) {
    if (next_sample >= num_samples) return;
    const std::int64_t place = next_sample++;
    const std::int64_t number = place / options.batch_size;
    auto found = making.find(number);
    if (found == making.end()) found = making.emplace(number, start_batch(number)).first;
    Making& made = found->second;  // stays where it is, and is given away when all is read
    std::exception_ptr error;
    if (!made.error) {
      lock.unlock();
      try {
        fill_volume(sample_index(place), made.batch.volumes, place % options.batch_size);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
    }
    if (error && !made.error) made.error = error;
    if (--made.num_left > 0) continue;
    lock.unlock();
    changed.notify_all();
    lock.lock();
  }
}

bool BatchLoader::State::augments_volumes() const {
  const AugmentOptions& augment = options.augment;
  return augment.shift_voxels >= 1 || augment.intensity_scale != 0 ||
         augment.intensity_offset != 0 || augment.noise_sigma > 0;
}

void BatchLoader::State::fill_volume(std::int64_t index, at::Tensor& volumes,
                                     std::int64_t row) const {
  const std::int64_t voxels = volume_voxels(cache);
  const PreprocessOptions& preprocess = cache.spec().preprocess;
  const auto augment = [&](float* volume) {
    augment_volume(options.augment, preprocess.volume_shape, preprocess.output_range,
                   random(index, kVolumePurpose), volume);
  };
  if (!options.as_bfloat16) {
    float* volume = volumes.mutable_data_ptr<float>() + row * voxels;
    cache.read_volume(index, volume);
    return augment(volume);
  }
  auto* volume = static_cast<std::uint16_t*>(volumes.mutable_data_ptr()) + row * voxels;
  if (!augments_volumes()) return cache.read_volume(index, volume);
  thread_local std::vector<float> wide;
  wide.resize(static_cast<std::size_t>(voxels));
  cache.read_volume(index, wide.data());
  augment(wide.data());
  std::transform(wide.begin(), wide.end(), volume, bfloat16_from_float);
}

/// Memory that the system gives afresh costs a fault for every page, more than the reading.
at::Tensor BatchLoader::State::take_volumes(std::int64_t size) {
  const Shape3& shape = cache.spec().preprocess.volume_shape;
  const auto type = options.as_bfloat16 ? at::kBFloat16 : at::kFloat;
  const auto make = [&] {
    return at::empty({size, 1, shape[0], shape[1], shape[2]},
                     at::TensorOptions(type).pinned_memory(options.is_pinned));
  };
  if (size < options.batch_size) return make();
  for (const at::Tensor& held : pool)
    if (held.use_count() == 1 && held.storage().use_count() == 1) return held;
  pool.push_back(make());
  return pool.back();
}

BatchLoader::State::Making BatchLoader::State::start_batch(std::int64_t number) {
  const std::int64_t begin = number * options.batch_size;
  const std::int64_t size = std::min(options.batch_size, num_samples - begin);
  const auto num_findings = static_cast<std::int64_t>(cache.findings().size());

  const TextSet* set = options.text_set ? options.text_set(number) : nullptr;
  std::vector<std::vector<std::int64_t>> texts;
  std::size_t longest = 0;
  for (std::int64_t b = 0; b < size; ++b) {
    const std::int64_t index = sample_index(begin + b);
    const auto at = static_cast<std::size_t>(index);
    const bool has_other = set != nullptr && !set->tokens[at].empty();
    texts.push_back(augment_tokens(options.augment,
                                   has_other ? set->tokens[at] : cache.entries()[at].tokens,
                                   options.period_token_id, random(index, kTextPurpose)));
    longest = std::max(longest, texts.back().size());
  }
  const auto length = static_cast<std::int64_t>(longest);
  Batch batch{.volumes = take_volumes(size),
              .tokens = at::full({size, length}, options.pad_id, at::kLong),
              .mask = at::zeros({size, length}, at::kLong),
              .labels = at::empty({size, num_findings}, at::kChar),
              .index = at::empty({size}, at::kLong),
              .positive_ids = {},
              .negative_ids = {}};
  for (std::int64_t b = 0; b < size; ++b) {
    const std::int64_t index = sample_index(begin + b);
    const CacheEntry& entry = cache.entries()[static_cast<std::size_t>(index)];
    const auto& text = texts[static_cast<std::size_t>(b)];
    std::copy(text.begin(), text.end(), batch.tokens.mutable_data_ptr<std::int64_t>() + b * length);
    std::fill_n(batch.mask.mutable_data_ptr<std::int64_t>() + b * length, text.size(), 1);
    std::copy(entry.labels.begin(), entry.labels.end(),
              batch.labels.mutable_data_ptr<std::int8_t>() + b * num_findings);
    batch.index.mutable_data_ptr<std::int64_t>()[b] = index;
  }
  batch.positive_ids = picked(set != nullptr ? set->positive_ids : options.positive_ids, batch.index);
  batch.negative_ids = picked(options.negative_ids, batch.index);
  return {.batch = std::move(batch), .num_left = size, .error = nullptr};
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
  state.changed.wait(lock, [&] {
    const auto found = state.making.find(state.next_to_give);
    return found != state.making.end() && found->second.num_left == 0;
  });
  state.waited_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  auto node = state.making.extract(state.next_to_give);
  ++state.next_to_give;
  lock.unlock();
  state.changed.notify_all();
  if (node.mapped().error) std::rethrow_exception(node.mapped().error);
  return std::move(node.mapped().batch);
}

double BatchLoader::waited_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->waited_seconds;
}

}  // namespace triphase::data
