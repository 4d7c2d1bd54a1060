// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/image_tower.hpp"
#include "models/text_tower.hpp"

#include <cstdint>
#include <string>

namespace triphase::models {

/// Everything that decides a network's shape.
struct TwoTowerOptions {
  std::string preset = "merlin";
  ImageTowerOptions image;
  TextTowerOptions text;
  std::int64_t embedding_size = 512;
};

/// "merlin" (ResNet-152 + Clinical-Longformer), "merlin_small" (the phantom cohort's: blocks 1,1,1,1, width 16;
/// 2 text layers of width 96; embedding 64) or "merlin_tiny" (tests).
/// @throws ConfigError naming the known presets
[[nodiscard]] TwoTowerOptions model_preset(const std::string& name);

/// Unit rows in a common space, in batch order.
struct Embeddings {
  at::Tensor image;             ///< [B,E] float32 (float64 in a float64 model), unit rows
  at::Tensor text;              ///< [B,E] likewise
  at::Tensor phenotype_logits;  ///< [B,P]; undefined unless asked for
};

/// One image through the tower.
struct ImageEncoding {
  at::Tensor embedding;         ///< [B,E] unit rows
  at::Tensor features;          ///< [B,F] pooled features before the heads (Merlin: F = 2048)
  at::Tensor phenotype_logits;  ///< [B,P]; undefined unless asked for
};

/// Merlin: both towers, their projections and the log-scale. Parameter names are Merlin's state_dict names
/// (encode_image.i3_resnet.*, encode_text.text_encoder.*, encode_text.linear_layer.*, logit_scale); logit_bias, which
/// Merlin has not, is there on request alone.
/// Embeddings are divided by their Euclidean norm without an epsilon. Source: Merlin's build.py.
class TwoTowerImpl : public torch::nn::Module {
 public:
  explicit TwoTowerImpl(const TwoTowerOptions& options);

  /// @param volumes [B,1,X,Y,Z]; @param tokens [B,L] int64; @param mask [B,L] int64
  [[nodiscard]] Embeddings forward(const at::Tensor& volumes, const at::Tensor& tokens,
                                   const at::Tensor& mask, bool with_phenotypes = false);
  [[nodiscard]] ImageEncoding encode_image_volumes(const at::Tensor& volumes,
                                                   bool with_phenotypes = false);
  /// @return [B,E] unit rows
  [[nodiscard]] at::Tensor encode_text_tokens(const at::Tensor& tokens, const at::Tensor& mask);

  [[nodiscard]] const TwoTowerOptions& options() const { return options_; }
  /// Where the weights are, and so what every pass takes.
  [[nodiscard]] at::Device device() const { return logit_scale_.device(); }
  /// The logarithm of the logit scale (1/temperature), a 0-dim parameter.
  [[nodiscard]] at::Tensor& log_scale() { return logit_scale_; }
  /// The bias that the sigmoid loss adds to every logit, a 0-dim parameter "logit_bias"; undefined in a model
  /// without one, as every model is at first.
  [[nodiscard]] at::Tensor& logit_bias() { return logit_bias_; }
  /// Gives the model a bias of 0, or takes its bias away; one that is there stays.
  void set_logit_bias(bool has_bias);
  [[nodiscard]] ImageTower& image_tower() { return encode_image_; }
  [[nodiscard]] TextTower& text_tower() { return encode_text_; }

 private:
  TwoTowerOptions options_;
  ImageTower encode_image_{nullptr};
  TextTower encode_text_{nullptr};
  at::Tensor logit_scale_;
  at::Tensor logit_bias_;
};
TORCH_MODULE(TwoTower);

/// Draws every weight anew from the seed, keyed by parameter name: the same weights whatever the order, the
/// number of threads or the other parameters. Convolutions and heads as torch's Conv3d and Linear (uniform in
/// +-1/sqrt(fan in)), other linear and embedding weights N(0, 0.02) (as BERT); norms 1 and 0.
void initialise_weights(TwoTower& model, std::uint64_t seed);

}  // namespace triphase::models
