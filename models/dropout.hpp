// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace triphase::models {

/// One key for each sample of a batch. Not to be shared by threads that run at a time.
class SampleKeys {
 public:
  explicit SampleKeys(std::vector<std::uint64_t> values) : values_(std::move(values)) {}
  [[nodiscard]] const std::vector<std::uint64_t>& values() const { return values_; }
  /// [samples] int64 of the same bits; copied there once.
  [[nodiscard]] at::Tensor on(const at::Device& device) const;

 private:
  std::vector<std::uint64_t> values_;
  mutable at::Tensor copy_;
};

/// What the next dropouts of this thread draw from. With keys, sample b (row b of every tensor) draws from
/// its own key and the number of dropouts before, and from nothing else: neither the batch that it is in,
/// nor its place there, nor the number of threads. Without keys, each dropout takes one number from the
/// default CPU generator as its key.
struct DropoutState {
  std::shared_ptr<const SampleKeys> sample_keys;  ///< null: no keys
  std::uint64_t num_drawn = 0;  ///< dropouts so far in this branch; only counted with keys
  friend bool operator==(const DropoutState&, const DropoutState&) = default;
};
[[nodiscard]] DropoutState dropout_state();

/// Lends this thread a state and gives its own back at the end.
class DropoutScope {
 public:
  explicit DropoutScope(DropoutState state);
  /// Keys for the samples of the passes within, in the batch's order.
  explicit DropoutScope(std::vector<std::uint64_t> sample_keys);
  ~DropoutScope();
  DropoutScope(const DropoutScope&) = delete;
  DropoutScope& operator=(const DropoutScope&) = delete;

 private:
  DropoutState before_;
};

/// The parts of a network whose dropouts are counted apart, so that one may run without the other.
enum class DropoutBranch : std::uint64_t { kImage = 0, kText = 1 };
void begin_dropout_branch(DropoutBranch branch);

/// kOperators: as on a GPU without a compiler, by LibTorch's operators, anywhere.
enum class DropoutForm { kAuto, kOperators };

/// Elements of x [B,...] are zero with chance p and divided by (1 - p) else; the gradient likewise. No mask
/// is kept. On every device the same elements are dropped of a tensor that lies alike in memory.
/// @param x float64, float32 or bfloat16
/// @param p in [0, 1)
[[nodiscard]] at::Tensor dropout(const at::Tensor& x, double p, DropoutForm form = DropoutForm::kAuto);

/// How rows of attention lie in a tensor [samples * num_chunks, heads, rows, columns]: row a of chunk c is
/// query c * stride + a, its first column is key c * stride - keys_before.
struct AttentionRows {
  std::int64_t num_chunks = 1;
  std::int64_t stride = 0;
  std::int64_t keys_before = 0;
};
/// dropout() by head, query and key: dense and chunked attention, and any padding, drop alike.
[[nodiscard]] at::Tensor attention_dropout(const at::Tensor& probabilities, double p,
                                           const AttentionRows& rows, DropoutForm form = DropoutForm::kAuto);

}  // namespace triphase::models
