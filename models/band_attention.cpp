// SPDX-License-Identifier: Apache-2.0
#include "models/band_attention.hpp"

#include "models/dropout.hpp"
#include "models/precision.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace triphase::models {
namespace {

/// [rows,columns] distances |query - key| where query i stands at position i and key j at j + offset.
at::Tensor distances(std::int64_t rows, std::int64_t columns, std::int64_t offset,
                     const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor query = at::arange(rows, options).unsqueeze(1);
  const at::Tensor key = at::arange(offset, offset + columns, options).unsqueeze(0);
  return (query - key).abs();
}

/// [B,heads,L,width] as overlapping windows [B * chunks, heads, 3 * reach, width], zeros outside.
at::Tensor windows(const at::Tensor& x, std::int64_t reach, std::int64_t padded_length) {
  const std::int64_t tail = padded_length - x.size(2) + reach;
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, reach, tail});
  return padded.unfold(2, 3 * reach, reach).permute({0, 2, 1, 4, 3}).flatten(0, 1);
}

}  // namespace

BandAttention::BandAttention(const at::Tensor& mask, bool has_padding, std::int64_t window,
                             Form form)
    : length_(mask.size(1)), reach_(window / 2), num_chunks_(0) {
  const bool chunked = form == Form::kChunked || (form == Form::kAuto && length_ > kDenseLength);
  if (!chunked) {
    const bool has_band = length_ > reach_ + 1;
    if (!has_band && !has_padding) return;
    const at::Tensor distance = distances(length_, length_, 0, mask.device());
    const at::Tensor band = distance <= reach_;
    visible_ = band.unsqueeze(0).unsqueeze(0);
    // A token always sees itself, so that no row is empty, not even a padded token's.
    if (has_padding) visible_ = visible_ & (mask.unsqueeze(1).unsqueeze(1) | (distance == 0));
    return;
  }
  num_chunks_ = (length_ + reach_ - 1) / reach_;
  const std::int64_t padded_length = num_chunks_ * reach_;
  const at::Tensor distance = distances(reach_, 3 * reach_, -reach_, mask.device());
  const at::Tensor keys = windows(mask.unsqueeze(1).unsqueeze(3), reach_, padded_length);
  visible_ = (distance <= reach_) & (keys.transpose(2, 3) | (distance == 0));
}

at::Tensor BandAttention::operator()(const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value, double dropout) const {
  return num_chunks_ > 0 ? chunked(query, key, value, dropout) : attend(query, key, value, dropout);
}

/// LibTorch's own attention, but with dropout: there it has no fused form and draws on one core.
at::Tensor BandAttention::attend(const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, double dropout) const {
  if (dropout == 0)
    return at::scaled_dot_product_attention(
        query, key, value, visible_.defined() ? std::optional(visible_) : std::nullopt);
  const AutocastGuard autocast(query.device().type());
  autocast.off();  // the three come in one dtype and stay in it
  const double scale = 1 / std::sqrt(static_cast<double>(query.size(3)));
  at::Tensor scores = at::matmul(query * scale, key.transpose(2, 3));
  if (visible_.defined())
    scores = scores + at::zeros_like(visible_, scores.options())
                          .masked_fill_(visible_.logical_not(), -std::numeric_limits<double>::infinity());
  const AttentionRows rows =
      num_chunks_ > 0 ? AttentionRows{num_chunks_, reach_, reach_} : AttentionRows{};
  return at::matmul(attention_dropout(at::softmax(scores, -1), dropout, rows), value);
}

at::Tensor BandAttention::chunked(const at::Tensor& query, const at::Tensor& key,
                                  const at::Tensor& value, double dropout) const {
  const std::int64_t batch = query.size(0);
  const std::int64_t padded_length = num_chunks_ * reach_;
  const at::Tensor padded = at::constant_pad_nd(query, {0, 0, 0, padded_length - length_});
  const at::Tensor queries =
      padded.unflatten(2, {num_chunks_, reach_}).transpose(1, 2).flatten(0, 1);
  const at::Tensor rows = attend(queries, windows(key, reach_, padded_length),
                                 windows(value, reach_, padded_length), dropout);
  return rows.unflatten(0, {batch, num_chunks_})
      .transpose(1, 2)
      .flatten(2, 3)
      .narrow(2, 0, length_);
}

}  // namespace triphase::models
