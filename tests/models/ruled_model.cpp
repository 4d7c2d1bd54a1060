// SPDX-License-Identifier: Apache-2.0
#include "tests/models/ruled_model.hpp"

#include "models/weights.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace triphase::models::test {
namespace {

/// Bounds of a weight's uniform draw: ruled_range() of tests/reference/small_merlin.py.
std::pair<double, double> ruled_range(const std::string& name, const at::Tensor& weight,
                                      double branch_gain) {
  if (name.ends_with(".running_mean")) return {-0.4, 0.4};
  if (name.ends_with(".running_var")) return {0.5, 2.0};
  if (name.ends_with(".bias")) return {-0.2, 0.2};
  if (name.ends_with("bn3.weight")) return {0.5 * branch_gain, 1.5 * branch_gain};
  if (weight.dim() == 1) return {0.5, 1.5};
  if (name.find("embeddings") != std::string::npos) return {-1.2, 1.2};
  const double bound = 2.4 / std::sqrt(static_cast<double>(weight.numel() / weight.size(0)));
  return {-bound, bound};
}

}  // namespace

at::Tensor keyed_uniform(KeyedRandom random, at::IntArrayRef shape, double low, double high) {
  at::Tensor values = at::empty(shape, at::kFloat);
  float* out = values.data_ptr<float>();
  const std::int64_t count = values.numel();
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(random.uniform(low, high));
  return values;
}

TwoTower ruled_model(const TwoTowerOptions& options, std::uint64_t seed) {
  TwoTower model(options);
  NamedTensors state = base_state(model);
  std::sort(state.begin(), state.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto blocks = std::count_if(state.begin(), state.end(), [](const auto& item) {
    return item.first.ends_with("bn3.weight");
  });
  const double branch_gain = 2.0 / std::sqrt(static_cast<double>(blocks));
  const at::NoGradGuard no_grad;
  for (std::uint64_t place = 0; place < state.size(); ++place) {
    auto& [name, tensor] = state[place];
    if (tensor.dim() == 0) {
      tensor.fill_(name == "logit_scale" ? 2 : 7);  // 7: batches tracked, which decides nothing
      continue;
    }
    const auto [low, high] = ruled_range(name, tensor, branch_gain);
    tensor.copy_(keyed_uniform({seed, place}, tensor.sizes(), low, high));
  }
  model->eval();
  return model;
}

at::Tensor ruled_volumes(std::uint64_t seed, std::uint64_t place,
                         const std::vector<std::int64_t>& shape) {
  constexpr std::int64_t kCube = 32;
  std::vector<std::int64_t> coarse = shape;
  for (std::size_t axis = 2; axis < 5; ++axis) coarse[axis] = (shape[axis] + kCube - 1) / kCube;
  at::Tensor volumes = keyed_uniform({seed, place, 0}, coarse, 0, 1);
  for (std::int64_t axis = 2; axis < 5; ++axis)
    volumes = volumes.repeat_interleave(kCube, axis)
                  .narrow(axis, 0, shape[static_cast<std::size_t>(axis)]);
  return volumes.mul(0.75) + keyed_uniform({seed, place, 1}, shape, 0, 1).mul(0.25);
}

std::pair<at::Tensor, at::Tensor> ruled_tokens(std::uint64_t seed, std::uint64_t place,
                                               const std::vector<std::int64_t>& lengths,
                                               std::int64_t vocabulary_size) {
  const auto batch = static_cast<std::int64_t>(lengths.size());
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  at::Tensor tokens = at::empty({batch, longest}, at::kLong);
  at::Tensor mask = at::zeros({batch, longest}, at::kLong);
  KeyedRandom random{seed, place, 2};
  std::int64_t* out = tokens.data_ptr<std::int64_t>();
  const auto choices = static_cast<std::uint64_t>(vocabulary_size - 3);
  for (std::int64_t i = 0; i < tokens.numel(); ++i)
    out[i] = 3 + static_cast<std::int64_t>(random.bits() % choices);
  for (std::int64_t row = 0; row < batch; ++row) {
    const std::int64_t length = lengths[static_cast<std::size_t>(row)];
    tokens[row][0].fill_(0);
    tokens[row][length - 1].fill_(2);
    tokens[row].slice(0, length).fill_(1);
    mask[row].slice(0, 0, length).fill_(1);
  }
  return {tokens, mask};
}

}  // namespace triphase::models::test
