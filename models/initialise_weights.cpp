// SPDX-License-Identifier: Apache-2.0
#include "models/two_tower.hpp"

#include "base/hash.hpp"
#include "base/random.hpp"
#include "base/torch_threads.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace triphase::models {
namespace {

constexpr std::int64_t kBlock = 1 << 16;  ///< values drawn with one key, whatever the number of threads

/// Fills a parameter by draw(random), block by block, each block keyed by (seed, name, block).
template <class Draw>
void fill(at::Tensor& parameter, std::uint64_t seed, const std::string& name, Draw draw) {
  at::Tensor values = at::empty(parameter.sizes(), at::kFloat);
  float* out = values.data_ptr<float>();
  const std::int64_t count = values.numel();
  const std::uint64_t name_key = xxh3(std::string_view(name));
  on_torch_threads((count + kBlock - 1) / kBlock, [&](std::int64_t block) {
    KeyedRandom random{seed, name_key, static_cast<std::uint64_t>(block)};
    const std::int64_t end = std::min(count, (block + 1) * kBlock);
    for (std::int64_t i = block * kBlock; i < end; ++i) out[i] = static_cast<float>(draw(random));
  });
  parameter.copy_(values);
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

bool ends_with(const std::string& text, std::string_view end) {
  return std::string_view(text).ends_with(end);
}

bool is_head(const std::string& name) {
  return contains(name, "contrastive_head.") || contains(name, "classifier.") ||
         contains(name, "linear_layer.");
}

/// As torch's Linear and Conv3d: uniform in +-1/sqrt(fan in of `weight`). A larger start, such as
/// Kaiming's by fan out, changes too slowly under AdamW with norms behind every convolution: on the
/// phantom cohort the small model then missed the lesions.
void draw_uniform(const at::Tensor& weight, const std::string& name, at::Tensor& parameter,
                  std::uint64_t seed) {
  const double bound = 1 / std::sqrt(static_cast<double>(weight.numel() / weight.size(0)));
  fill(parameter, seed, name, [bound](KeyedRandom& r) { return r.uniform(-bound, bound); });
}

void draw_head(TwoTower& model, const std::string& name, at::Tensor& parameter,
               std::uint64_t seed) {
  const std::string path = name.substr(0, name.rfind('.'));
  draw_uniform(model->named_parameters()[path + ".weight"], name, parameter, seed);
}

/// N(0, 0.02) for linear and embedding weights.
void draw_weight(const std::string& name, at::Tensor& parameter, std::uint64_t seed) {
  if (parameter.dim() == 5) {
    draw_uniform(parameter, name, parameter, seed);
    return;
  }
  fill(parameter, seed, name, [](KeyedRandom& r) { return r.normal(0, 0.02); });
  if (contains(name, "word_embeddings") || contains(name, "position_embeddings"))
    parameter[1].zero_();  // the padding token's row, which never trains
}

}  // namespace

void initialise_weights(TwoTower& model, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    const std::string& name = item.key();
    at::Tensor& parameter = item.value();
    if (contains(name, ".lora_")) continue;  // adapters are drawn when they are made
    if (name == "logit_scale") {
      parameter.fill_(1);
    } else if (name == "logit_bias") {
      parameter.fill_(0);
    } else if (is_head(name)) {
      draw_head(model, name, parameter, seed);
    } else if (parameter.dim() == 1) {
      parameter.fill_(ends_with(name, ".weight") ? 1 : 0);  // norms 1 and 0, other biases 0
    } else {
      draw_weight(name, parameter, seed);
    }
  }
  for (auto& item : model->named_buffers())
    item.value().fill_(ends_with(item.key(), "running_var") ? 1 : 0);
}

}  // namespace triphase::models
