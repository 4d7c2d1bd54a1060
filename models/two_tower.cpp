// SPDX-License-Identifier: Apache-2.0
#include "models/two_tower.hpp"

#include "base/error.hpp"
#include "models/precision.hpp"

#include <ATen/ATen.h>
#include <torch/types.h>

namespace triphase::models {
namespace {

/// The phantom cohort's model. No dropout: a small network on a few hundred reports underfits sooner than it
/// overfits, and without it a step draws no random numbers.
TwoTowerOptions small_preset() {
  return {.preset = "merlin_small",
          .image = {.blocks = {1, 1, 1, 1}, .base_width = 16, .num_phenotypes = 16},
          .text = {.vocabulary_size = 1024,
                   .hidden_size = 96,
                   .num_layers = 2,
                   .num_heads = 4,
                   .intermediate_size = 192,
                   .attention_window = 512,
                   .max_positions = 514,
                   .dropout = 0},
          .embedding_size = 64};
}

/// Small enough for tests of whole programs; its window of 8 makes attention local even in short texts.
TwoTowerOptions tiny_preset() {
  return {.preset = "merlin_tiny",
          .image = {.blocks = {1, 1, 1, 1}, .base_width = 4, .num_phenotypes = 16},
          .text = {.vocabulary_size = 1024,
                   .hidden_size = 32,
                   .num_layers = 2,
                   .num_heads = 2,
                   .intermediate_size = 64,
                   .attention_window = 8,
                   .max_positions = 130,
                   .dropout = 0},
          .embedding_size = 16};
}

}  // namespace

TwoTowerOptions model_preset(const std::string& name) {
  if (name == "merlin") return {};
  if (name == "merlin_small") return small_preset();
  if (name == "merlin_tiny") return tiny_preset();
  throw ConfigError(str("there is no model preset '", name,
                        "'. Known are merlin, merlin_small and merlin_tiny."));
}

TwoTowerImpl::TwoTowerImpl(const TwoTowerOptions& options) : options_(options) {
  encode_image_ =
      register_module("encode_image", ImageTower(options.image, options.embedding_size));
  encode_text_ = register_module("encode_text", TextTower(options.text, options.embedding_size));
  logit_scale_ = register_parameter("logit_scale", torch::ones({}));  // as Merlin
}

void TwoTowerImpl::set_logit_bias(bool has_bias) {
  if (has_bias == logit_bias_.defined()) return;
  if (has_bias) {
    logit_bias_ = register_parameter("logit_bias", at::zeros_like(logit_scale_.detach()));
    return;
  }
  parameters_.erase("logit_bias");
  logit_bias_ = at::Tensor();
}

Embeddings TwoTowerImpl::forward(const at::Tensor& volumes, const at::Tensor& tokens,
                                 const at::Tensor& mask, bool with_phenotypes) {
  const ImageEncoding image = encode_image_volumes(volumes, with_phenotypes);
  return {image.embedding, encode_text_tokens(tokens, mask), image.phenotype_logits};
}

ImageEncoding TwoTowerImpl::encode_image_volumes(const at::Tensor& volumes, bool with_phenotypes) {
  const ImageTowerImpl::Output output = encode_image_->forward(volumes, with_phenotypes);
  return {unit_rows(output.projection), output.features, output.phenotype_logits};
}

at::Tensor TwoTowerImpl::encode_text_tokens(const at::Tensor& tokens, const at::Tensor& mask) {
  return unit_rows(encode_text_->forward(tokens, mask).projection);
}

}  // namespace triphase::models
