// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/batch_norm.hpp"
#include "models/kept_result.hpp"

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <array>
#include <cstdint>
#include <string>

namespace triphase::models {

/// How an adapter takes part in a pass. `kTwoPath`: beside the weight, W x + scale B (A x). `kMerged`: within
/// it, (W + scale B A) x by one convolution; equal to rounding. It has no place for the adapter's dropout.
enum class AdapterExecution { kTwoPath, kMerged };

/// The two low-rank factors beside a frozen weight, in peft's form.
struct LowRankOptions {
  std::int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rslora = false;  ///< scale alpha/sqrt(rank) instead of alpha/rank
  AdapterExecution execution = AdapterExecution::kTwoPath;
  [[nodiscard]] double scale() const;
};

/// Conv3d without bias or with, and an optional ConvLoRA beside it:
///   y = conv(x, W) + scale * conv1x1x1(conv(dropout(x), A), B).
/// Parameters: weight [O,I,kd,kh,kw], bias [O]; once adapted lora_A.weight [r,I,kd,kh,kw], lora_B.weight
/// [O,r,1,1,1]. B starts at zero, so adapting changes no output. Source: peft's lora/layer.py (_ConvNd).
/// forward() of merged-in factors (merge_keeping_factors) has no adapter path: only the weight counts.
class AdaptedConv3dImpl : public torch::nn::Module {
 public:
  struct Options {
    std::int64_t in_channels = 1;
    std::int64_t out_channels = 1;
    std::array<std::int64_t, 3> kernel{1, 1, 1};
    std::array<std::int64_t, 3> stride{1, 1, 1};
    std::array<std::int64_t, 3> padding{0, 0, 0};
    bool bias = false;
    bool fold_input_channels = false;  ///< input has one channel that stands for in_channels equal ones
  };
  explicit AdaptedConv3dImpl(const Options& options);
  /// The convolution, then `after` on its output channels: folded into the kernels and the bias, equal to
  /// rounding.
  [[nodiscard]] at::Tensor forward(const at::Tensor& x, const ChannelAffine& after = {});
  /// Adds the factors, A drawn Kaiming-uniform (a = sqrt 5) from the seed, B zero. Freezes weight and bias.
  void adapt(const LowRankOptions& options, std::uint64_t seed);
  [[nodiscard]] bool is_adapted() const { return adapted_; }
  /// scale * B A in the weight's shape. @throws InternalError when not adapted
  [[nodiscard]] at::Tensor delta_weight() const;
  /// Adds delta_weight() to weight and removes the factors.
  void merge();
  /// Adds delta_weight() to weight and keeps the factors for unmerge(), which takes it away again: the
  /// weight is then what it was but for the rounding of two sums. In between forward() ignores the factors,
  /// so nothing trains. @throws InternalError when not adapted, or merged (not merged) already
  void merge_keeping_factors();
  void unmerge();
  [[nodiscard]] bool is_merged() const { return merged_; }
  [[nodiscard]] const LowRankOptions& low_rank() const { return low_rank_; }
  [[nodiscard]] const Options& options() const { return options_; }

  at::Tensor weight;
  at::Tensor bias;
  at::Tensor lora_A;  ///< undefined until adapted
  at::Tensor lora_B;

 private:
  at::Tensor base_kernel(const at::Tensor& x, const ChannelAffine& after);

  Options options_;
  LowRankOptions low_rank_;
  bool adapted_ = false;
  bool merged_ = false;
  KeptResult narrow_;  ///< see Note [Frozen kernels]
};
TORCH_MODULE(AdaptedConv3d);

/// Linear layer with an optional LoRA beside it; lora_A.weight [r,I], lora_B.weight [O,r].
/// Source: peft's lora/layer.py (Linear); Hu et al., LoRA, 2021, section 4.1.
class AdaptedLinearImpl : public torch::nn::Module {
 public:
  AdaptedLinearImpl(std::int64_t in_features, std::int64_t out_features);
  [[nodiscard]] at::Tensor forward(const at::Tensor& x);
  void adapt(const LowRankOptions& options, std::uint64_t seed);
  [[nodiscard]] bool is_adapted() const { return adapted_; }
  [[nodiscard]] at::Tensor delta_weight() const;
  void merge();
  void merge_keeping_factors();
  void unmerge();
  [[nodiscard]] bool is_merged() const { return merged_; }
  [[nodiscard]] const LowRankOptions& low_rank() const { return low_rank_; }

  at::Tensor weight;
  at::Tensor bias;
  at::Tensor lora_A;
  at::Tensor lora_B;

 private:
  LowRankOptions low_rank_;
  bool adapted_ = false;
  bool merged_ = false;
  KeptResult narrow_;
};
TORCH_MODULE(AdaptedLinear);

}  // namespace triphase::models
