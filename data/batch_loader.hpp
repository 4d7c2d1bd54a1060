// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/augment.hpp"
#include "data/cache.hpp"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace triphase::data {

/// Samples as the towers take them. `index` goes with its sample to the end.
struct Batch {
  at::Tensor volumes;  ///< [B,1,X,Y,Z] float32 (or bfloat16, see as_bfloat16) in output_range
  at::Tensor tokens;   ///< [B,L] int64, right-padded to the batch's longest report
  at::Tensor mask;     ///< [B,L] int64, 1 for tokens, 0 for padding
  at::Tensor labels;   ///< [B,F] int8: 1, 0, -1 (unknown)
  at::Tensor index;    ///< [B] int64 into Cache::entries()
  at::Tensor positive_ids;  ///< [B] int64, of BatchLoaderOptions::positive_ids; undefined without
  at::Tensor negative_ids;  ///< [B] int64 likewise
};

/// Other texts than the reports as they were cached.
struct TextSet {
  std::vector<std::vector<std::int64_t>> tokens;  ///< of each of Cache::entries(); empty: the entry's own
  std::vector<std::int64_t> positive_ids;         ///< in place of BatchLoaderOptions::positive_ids
};

struct BatchLoaderOptions {
  std::vector<std::int64_t> sample_indices;  ///< into Cache::entries(), in reading order
  std::int64_t batch_size = 1;               ///< samples per batch of this rank; the last may be smaller
  int num_workers = 1;                       ///< background threads, >= 1
  /// Volumes of batches that are ready or in the making, >= 1; one batch at least, whatever its size.
  std::int64_t read_ahead_bytes = std::int64_t{1} << 30;
  bool as_bfloat16 = false;                  ///< volumes rounded to bfloat16, after augmentation
  /// Volumes in memory that a GPU reads by itself, for copies that run beside its work. A batch must be held until
  /// its copy is done: its memory is used again afterwards.
  bool is_pinned = false;
  AugmentOptions augment;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t pad_id = 1;
  std::int64_t period_token_id = -1;         ///< the token that ends a sentence, for text_drop; -1: none
  /// One number for each of Cache::entries(), equal where samples belong together; empty: none.
  std::vector<std::int64_t> positive_ids;
  std::vector<std::int64_t> negative_ids;
  /// The texts of the loader's n-th batch, 0 first; null or a null result: the entries' own. Called from any
  /// thread; what it returns outlives the loader.
  std::function<const TextSet*(std::int64_t number)> text_set;
};

/// Reads batches in the background, in the given order; the workers share a batch's samples. An error in a
/// worker is thrown by next() at the batch it belongs to. The memory of a batch's volumes is used again once
/// nobody holds them. The destructor stops the workers.
class BatchLoader {
 public:
  /// The cache must outlive the loader.
  BatchLoader(const Cache& cache, BatchLoaderOptions options);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The next batch, or nothing after the last. Waits for the workers. Purely local.
  [[nodiscard]] std::optional<Batch> next();
  /// Seconds that next() has waited so far.
  [[nodiscard]] double waited_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase::data
