// SPDX-License-Identifier: Apache-2.0
#include "tests/models/models_test_support.hpp"

#include "base/random.hpp"

#include <cmath>
#include <limits>

namespace triphase::models::test {

TwoTowerOptions golden_tiny_options() {
  TwoTowerOptions options = model_preset("merlin_tiny");
  options.text.vocabulary_size = 64;
  return options;
}

TwoTowerOptions golden_odd_options() {
  return {.preset = "golden",
          .image = {.blocks = {1, 2, 1, 1}, .base_width = 4, .num_phenotypes = 5},
          .text = {.vocabulary_size = 40,
                   .hidden_size = 24,
                   .num_layers = 1,
                   .num_heads = 3,
                   .intermediate_size = 40,
                   .attention_window = 16,
                   .max_positions = 34,
                   .dropout = 0.1},  // a golden is in eval mode: nothing may be dropped
          .embedding_size = 12};
}

TensorMap read_golden(const std::string& name) {
  const auto path = triphase::test::golden_folder() / (name + ".safetensors");
  TensorMap result;
  for (const auto& [key, tensor] : read_safetensors(path).tensors) result[key] = tensor.clone();
  return result;
}

TwoTower golden_model(const std::string& name) {
  TwoTower model(name == "merlin_tiny" ? golden_tiny_options() : golden_odd_options());
  const auto path = triphase::test::golden_folder() / "towers" / (name + "_weights.safetensors");
  load_weights(model, path.string(), 0);
  model->eval();
  return model;
}

TwoTower random_model(std::uint64_t seed, const TwoTowerOptions& options) {
  TwoTower model(options);
  initialise_weights(model, seed);
  return model;
}

TwoTower random_model(std::uint64_t seed) {
  return random_model(seed, model_preset("merlin_tiny"));
}

Input random_input(std::int64_t batch, std::int64_t length, std::uint64_t seed) {
  KeyedRandom random{seed};
  Input input;
  input.volumes = normal({batch, 1, 24, 20, 16}, seed);
  input.tokens = at::empty({batch, length}, at::kLong);
  input.mask = at::ones({batch, length}, at::kLong);
  for (std::int64_t i = 0; i < input.tokens.numel(); ++i)
    input.tokens.view({-1})[i] = static_cast<std::int64_t>(3 + random.below(60));
  if (batch > 1 && length > 3) {
    input.tokens[1].slice(0, length - 2).fill_(1);
    input.mask[1].slice(0, length - 2).fill_(0);
  }
  return input;
}

at::Tensor contrastive_loss(const Embeddings& rows, const at::Tensor& log_scale) {
  const at::Tensor logits = log_scale.exp() * at::matmul(rows.image, rows.text.t());
  const at::Tensor target = at::arange(logits.size(0), logits.options().dtype(at::kLong));
  return 0.5 *
         (at::cross_entropy_loss(logits, target) + at::cross_entropy_loss(logits.t(), target));
}

TensorMap loss_gradients(TwoTower& model, const Input& input) {
  model->zero_grad();
  contrastive_loss(model->forward(input.volumes, input.tokens, input.mask), model->log_scale())
      .backward();
  TensorMap gradients;
  for (const auto& item : model->named_parameters())
    if (item.value().grad().defined()) gradients[item.key()] = item.value().grad().clone();
  return gradients;
}

double max_error(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  if (a.numel() == 0) return 0;
  const double error = (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return max_error(a, b) / std::max(1e-12, b.to(at::kDouble).abs().max().item<double>());
}

bool equal_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType dtype) {
  at::Tensor values = at::empty(shape, at::kDouble);
  KeyedRandom random{seed, 17};
  double* out = values.data_ptr<double>();
  for (std::int64_t i = 0; i < values.numel(); ++i) out[i] = random.normal();
  return values.to(dtype);
}

void fill_factors(TwoTower& model, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& [name, factor] : adapter_state(model))
    at::Tensor(factor).copy_(0.2 * normal(factor.sizes(), ++seed));
}

}  // namespace triphase::models::test
