// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/image_tower.hpp"

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>

namespace triphase::models {

struct TextTowerOptions {
  std::int64_t vocabulary_size = 50265;
  std::int64_t hidden_size = 768;
  std::int64_t num_layers = 12;
  std::int64_t num_heads = 12;
  std::int64_t intermediate_size = 3072;
  std::int64_t attention_window = 512;  ///< keys seen: |i-j| <= attention_window/2
  std::int64_t max_positions = 4098;    ///< positions start at 2, so max_positions - 2 tokens
  double dropout = 0.1;                 ///< in training mode only
};

/// Clinical-Longformer without global tokens + Merlin's projection of the CLS vector. Names below
/// `encode_text.`: text_encoder.embeddings.*, text_encoder.encoder.layer.N.*, text_encoder.pooler.*,
/// linear_layer.*. The unused *_global projections and the pooler are kept as parameters that never train.
/// Source: transformers' modeling_longformer.py, for global_attention_mask = None.
class TextTowerImpl : public torch::nn::Module {
 public:
  TextTowerImpl(const TextTowerOptions& options, std::int64_t embedding_size);
  ~TextTowerImpl() override;

  struct Output {
    at::Tensor projection;  ///< [B,E], not normalised
    at::Tensor cls;         ///< [B,hidden] CLS vector of the last layer
  };
  /// @param tokens [B,L] int64, L <= max_positions - 2; @param mask [B,L] 1 for tokens, 0 for padding
  /// @throws DataError when a token id or L is out of range
  [[nodiscard]] Output forward(const at::Tensor& tokens, const at::Tensor& mask);

  /// kBlocks and kStages alike: each layer keeps its input alone.
  void set_recompute(Recompute mode);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};
TORCH_MODULE(TextTower);

}  // namespace triphase::models
