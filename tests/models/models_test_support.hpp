// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/weights.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <unordered_map>

namespace triphase::models::test {

using TensorMap = std::unordered_map<std::string, at::Tensor>;

/// The golden models of tests/reference/make_towers.py.
[[nodiscard]] TwoTowerOptions golden_tiny_options();
[[nodiscard]] TwoTowerOptions golden_odd_options();

/// A golden file's tensors by name, copied. `name` without ".safetensors".
[[nodiscard]] TensorMap read_golden(const std::string& name);

/// A model in eval mode with the golden weights of "merlin_tiny" or "merlin_odd".
[[nodiscard]] TwoTower golden_model(const std::string& name);

/// The preset merlin_tiny with random weights; merlin_tiny's own or other options.
[[nodiscard]] TwoTower random_model(std::uint64_t seed, const TwoTowerOptions& options);
[[nodiscard]] TwoTower random_model(std::uint64_t seed);

/// Volumes [B,1,X,Y,Z], tokens and mask [B,L] for it; the second text is shorter by two tokens.
struct Input {
  at::Tensor volumes;
  at::Tensor tokens;
  at::Tensor mask;
};
[[nodiscard]] Input random_input(std::int64_t batch, std::int64_t length, std::uint64_t seed);

/// The mean symmetric InfoNCE: half the row and half the column cross entropy.
[[nodiscard]] at::Tensor contrastive_loss(const Embeddings& rows, const at::Tensor& log_scale);

/// Gradients of the loss by parameter name; parameters without one are left out.
[[nodiscard]] TensorMap loss_gradients(TwoTower& model, const Input& input);

/// max |a - b|, infinite when shapes differ or a value is not finite.
[[nodiscard]] double max_error(const at::Tensor& a, const at::Tensor& b);

/// max |a - b| over max |b|, or over 1e-12 where b vanishes.
[[nodiscard]] double relative_error(const at::Tensor& a, const at::Tensor& b);

[[nodiscard]] bool equal_bits(const at::Tensor& a, const at::Tensor& b);

/// Standard normal values that depend on the seed and the shape alone.
[[nodiscard]] at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed,
                                at::ScalarType dtype = at::kFloat);

/// Gives every adapter factor non-zero values.
void fill_factors(TwoTower& model, std::uint64_t seed);

}  // namespace triphase::models::test
