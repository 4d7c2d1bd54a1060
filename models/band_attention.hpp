// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace triphase::models {

/// Self-attention in which token i sees the unpadded tokens j with |i - j| <= window / 2, itself included.
/// Made once per batch and used by every layer. Up to kDenseLength tokens the band is a mask over dense
/// attention; beyond, the sequence is cut in chunks of window / 2 queries that see three chunks of keys, so
/// that the cost is length times window. Rows of padded tokens are finite and mean nothing.
/// Source: transformers' modeling_longformer.py without global tokens, as a plain formula.
class BandAttention {
 public:
  static constexpr std::int64_t kDenseLength = 1024;
  enum class Form { kAuto, kDense, kChunked };

  /// @param mask [B,L] bool, true for tokens; @param has_padding whether any entry is false
  BandAttention(const at::Tensor& mask, bool has_padding, std::int64_t window,
                Form form = Form::kAuto);

  /// @param query [B,heads,L,width], key and value alike; scores are divided by sqrt(width)
  /// @param dropout of the attention's weights (see attention_dropout())
  /// @return [B,heads,L,width]
  [[nodiscard]] at::Tensor operator()(const at::Tensor& query, const at::Tensor& key,
                                      const at::Tensor& value, double dropout) const;

 private:
  [[nodiscard]] at::Tensor chunked(const at::Tensor& query, const at::Tensor& key,
                                   const at::Tensor& value, double dropout) const;
  [[nodiscard]] at::Tensor attend(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value, double dropout) const;

  std::int64_t length_;
  std::int64_t reach_;        ///< window / 2
  std::int64_t num_chunks_;   ///< 0: dense
  at::Tensor visible_;        ///< bool, broadcasts over heads; undefined: everything is visible
};

}  // namespace triphase::models
