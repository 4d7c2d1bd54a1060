// SPDX-License-Identifier: Apache-2.0
#include "models/text_tower.hpp"

#include "base/error.hpp"
#include "models/band_attention.hpp"
#include "models/dropout.hpp"
#include "models/precision.hpp"
#include "models/recompute.hpp"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <string>
#include <vector>

namespace triphase::models {
namespace {

constexpr double kEpsilon = 1e-5;          ///< layer_norm_eps of Clinical-Longformer
constexpr std::int64_t kPaddingToken = 1;  ///< RoBERTa's <pad>; also the position of padded tokens

/// Normalises the last dimension in float32 or wider and stays there.
class LayerNormImpl : public torch::nn::Module {
 public:
  explicit LayerNormImpl(std::int64_t size) {
    weight_ = register_parameter("weight", torch::ones({size}));
    bias_ = register_parameter("bias", torch::zeros({size}));
  }
  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor wide = widened(x);
    return at::layer_norm(wide, {x.size(-1)}, matching(weight_, wide), matching(bias_, wide),
                          kEpsilon);
  }

 private:
  at::Tensor weight_;
  at::Tensor bias_;
};
TORCH_MODULE(LayerNorm);

class EmbeddingImpl : public torch::nn::Module {
 public:
  EmbeddingImpl(std::int64_t rows, std::int64_t width, std::int64_t padding_row)
      : padding_row_(padding_row) {
    weight_ = register_parameter("weight", torch::zeros({rows, width}));
  }
  /// The padding row gets no gradient (-1: every row gets one).
  at::Tensor forward(const at::Tensor& ids) {
    return at::embedding(weight_, ids, padding_row_, /*scale_grad_by_freq=*/false,
                         /*sparse=*/false);
  }

 private:
  std::int64_t padding_row_;
  at::Tensor weight_;
};
TORCH_MODULE(Embedding);

/// Word + position + type, then LayerNorm and dropout. Real tokens stand at positions 2, 3, ...
class EmbeddingsImpl : public torch::nn::Module {
 public:
  explicit EmbeddingsImpl(const TextTowerOptions& options) : dropout_(options.dropout) {
    const std::int64_t width = options.hidden_size;
    word_ = register_module("word_embeddings",
                            Embedding(options.vocabulary_size, width, kPaddingToken));
    position_ = register_module("position_embeddings",
                                Embedding(options.max_positions, width, kPaddingToken));
    type_ = register_module("token_type_embeddings", Embedding(1, width, -1));
    norm_ = register_module("LayerNorm", LayerNorm(width));
  }
  at::Tensor forward(const at::Tensor& tokens) {
    const at::Tensor real = tokens.ne(kPaddingToken).to(at::kLong);
    const at::Tensor positions = real.cumsum(1) * real + kPaddingToken;
    const at::Tensor types = type_(at::zeros({1, 1}, tokens.options()));
    return dropout(norm_(word_(tokens) + position_(positions) + types),
                   is_training() ? dropout_ : 0.0);
  }

 private:
  double dropout_;
  Embedding word_{nullptr};
  Embedding position_{nullptr};
  Embedding type_{nullptr};
  LayerNorm norm_{nullptr};
};
TORCH_MODULE(Embeddings);

/// Longformer's self-attention. The *_global projections serve global tokens, of which Merlin has none:
/// they are kept for the files and never used.
class SelfAttentionImpl : public torch::nn::Module {
 public:
  explicit SelfAttentionImpl(const TextTowerOptions& options)
      : num_heads_(options.num_heads), dropout_(options.dropout) {
    const auto projection = [&](const char* name) {
      return register_module(name, AdaptedLinear(options.hidden_size, options.hidden_size));
    };
    query_ = projection("query");
    key_ = projection("key");
    value_ = projection("value");
    for (const char* unused : {"query_global", "key_global", "value_global"}) projection(unused);
  }
  at::Tensor forward(const at::Tensor& x, const BandAttention& attention) {
    const auto heads = [this](const at::Tensor& rows) {
      return rows.unflatten(2, {num_heads_, rows.size(2) / num_heads_}).transpose(1, 2);
    };
    const at::Tensor context = attention(heads(query_(x)), heads(key_(x)), heads(value_(x)),
                                         is_training() ? dropout_ : 0.0);
    return context.transpose(1, 2).flatten(2);
  }

 private:
  std::int64_t num_heads_;
  double dropout_;
  AdaptedLinear query_{nullptr};
  AdaptedLinear key_{nullptr};
  AdaptedLinear value_{nullptr};
};
TORCH_MODULE(SelfAttention);

/// dense, dropout, sum with the input, LayerNorm: the end of both halves of a layer.
class ResidualOutputImpl : public torch::nn::Module {
 public:
  ResidualOutputImpl(std::int64_t in, std::int64_t width, double dropout)
      : dropout_(dropout),
        dense_(register_module("dense", AdaptedLinear(in, width))),
        norm_(register_module("LayerNorm", LayerNorm(width))) {}
  at::Tensor forward(const at::Tensor& x, const at::Tensor& residual) {
    return norm_(widened(dropout(dense_(x), is_training() ? dropout_ : 0.0)) + residual);
  }

 private:
  double dropout_;
  AdaptedLinear dense_;
  LayerNorm norm_;
};
TORCH_MODULE(ResidualOutput);

/// A module whose only use is the name of what it holds, e.g. intermediate.dense.
class NamedDenseImpl : public torch::nn::Module {
 public:
  NamedDenseImpl(std::int64_t in, std::int64_t out)
      : dense_(register_module("dense", AdaptedLinear(in, out))) {}
  at::Tensor forward(const at::Tensor& x) { return dense_(x); }

 private:
  AdaptedLinear dense_;
};
TORCH_MODULE(NamedDense);

class AttentionImpl : public torch::nn::Module {
 public:
  explicit AttentionImpl(const TextTowerOptions& options)
      : self_(register_module("self", SelfAttention(options))),
        output_(register_module("output", ResidualOutput(options.hidden_size, options.hidden_size,
                                                         options.dropout))) {}
  at::Tensor forward(const at::Tensor& x, const BandAttention& attention) {
    return output_(self_(x, attention), x);
  }

 private:
  SelfAttention self_;
  ResidualOutput output_;
};
TORCH_MODULE(Attention);

class LayerImpl : public torch::nn::Module {
 public:
  explicit LayerImpl(const TextTowerOptions& options)
      : attention_(register_module("attention", Attention(options))),
        intermediate_(register_module(
            "intermediate", NamedDense(options.hidden_size, options.intermediate_size))),
        output_(register_module("output", ResidualOutput(options.intermediate_size,
                                                         options.hidden_size, options.dropout))) {}
  at::Tensor forward(const at::Tensor& x, const BandAttention& attention) {
    const at::Tensor y = attention_(x, attention);
    return output_(at::gelu(intermediate_(y)), y);  // the exact GELU, by erf
  }

 private:
  Attention attention_;
  NamedDense intermediate_;
  ResidualOutput output_;
};
TORCH_MODULE(Layer);

class EncoderImpl : public torch::nn::Module {
 public:
  explicit EncoderImpl(const TextTowerOptions& options) {
    auto list = std::make_shared<LayerListImpl>();
    register_module("layer", list);
    for (std::int64_t i = 0; i < options.num_layers; ++i)
      layers_.push_back(list->register_module(std::to_string(i), Layer(options)));
  }
  at::Tensor forward(const at::Tensor& x, const BandAttention& attention, bool recompute) {
    at::Tensor y = x;
    for (Layer& layer : layers_) {
      // The band is copied (its mask is shared): backward may come when the caller's is gone.
      auto segment = [layer, attention](const at::Tensor& z) mutable {
        return layer(z, attention);
      };
      y = recompute ? recompute_in_backward(segment, y, {layer.get()}) : segment(y);
    }
    return y;
  }

 private:
  struct LayerListImpl : torch::nn::Module {};
  std::vector<Layer> layers_;
};
TORCH_MODULE(Encoder);

/// Named text_encoder; the pooler is kept for the files and never used.
class LongformerImpl : public torch::nn::Module {
 public:
  explicit LongformerImpl(const TextTowerOptions& options)
      : embeddings_(register_module("embeddings", Embeddings(options))),
        encoder_(register_module("encoder", Encoder(options))) {
    register_module("pooler", NamedDense(options.hidden_size, options.hidden_size));
  }
  at::Tensor forward(const at::Tensor& tokens, const BandAttention& attention, bool recompute) {
    return encoder_(embeddings_(tokens), attention, recompute);
  }

 private:
  Embeddings embeddings_;
  Encoder encoder_;
};
TORCH_MODULE(Longformer);

/// Checks ranges with one look at the device. @return whether any token is padding
bool check_tokens(const TextTowerOptions& options, const at::Tensor& tokens,
                  const at::Tensor& mask) {
  TRIPHASE_CHECK(DataError, tokens.dim() == 2 && tokens.numel() > 0 && tokens.sizes() == mask.sizes(),
                 "tokens and mask must be [B,L] alike and not empty, are ", tokens.sizes(), " and ",
                 mask.sizes());
  TRIPHASE_CHECK(DataError, tokens.size(1) <= options.max_positions - 2, "a text has ",
                 tokens.size(1), " tokens, this model has positions for ",
                 options.max_positions - 2, ". Lower model.max_text_tokens.");
  const at::Tensor least_mask = mask.ne(0).to(at::kLong).min();
  const at::Tensor seen = at::stack({tokens.min(), tokens.max(), least_mask}).to(at::kCPU);
  const auto* values = seen.const_data_ptr<std::int64_t>();
  TRIPHASE_CHECK(DataError, values[0] >= 0 && values[1] < options.vocabulary_size,
                 "token ids reach from ", values[0], " to ", values[1],
                 ", this model's vocabulary has ", options.vocabulary_size,
                 " entries. Use the tokenizer that the model was trained with.");
  return values[2] == 0;
}

void check_options(const TextTowerOptions& options) {
  TRIPHASE_CHECK(ConfigError,
                 options.num_heads > 0 && options.hidden_size % options.num_heads == 0,
                 "hidden_size ", options.hidden_size, " is no multiple of num_heads ",
                 options.num_heads);
  TRIPHASE_CHECK(ConfigError, options.attention_window >= 2 && options.attention_window % 2 == 0,
                 "attention_window must be even and at least 2, is ", options.attention_window);
}

}  // namespace

struct TextTowerImpl::Parts {
  TextTowerOptions options;
  Longformer text_encoder;
  AdaptedLinear linear_layer;
  bool recompute = false;
};

TextTowerImpl::TextTowerImpl(const TextTowerOptions& options, std::int64_t embedding_size) {
  check_options(options);
  parts_ = std::make_unique<Parts>(
      Parts{options, register_module("text_encoder", Longformer(options)),
            register_module("linear_layer", AdaptedLinear(options.hidden_size, embedding_size))});
}

TextTowerImpl::~TextTowerImpl() = default;

TextTowerImpl::Output TextTowerImpl::forward(const at::Tensor& tokens, const at::Tensor& mask) {
  const bool has_padding = check_tokens(parts_->options, tokens, mask);
  begin_dropout_branch(DropoutBranch::kText);
  const BandAttention attention(mask.ne(0), has_padding, parts_->options.attention_window);
  Output output;
  output.cls = parts_->text_encoder(tokens, attention, parts_->recompute).select(1, 0);
  // Without autocast: the projection costs nothing and its rows are compared.
  const AutocastGuard autocast(tokens.device().type());
  autocast.off();
  output.projection =
      parts_->linear_layer(output.cls.to(parts_->linear_layer->weight.scalar_type()));
  return output;
}

void TextTowerImpl::set_recompute(Recompute mode) { parts_->recompute = mode != Recompute::kNone; }

}  // namespace triphase::models
