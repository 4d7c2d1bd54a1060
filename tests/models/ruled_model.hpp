// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/random.hpp"
#include "models/two_tower.hpp"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

namespace triphase::models::test {

/// Models and inputs that follow from a rule, the same as tests/reference/small_merlin.py draws
/// them: no golden file has to hold them.

/// The float32 tensor of low + (high - low) * uniform(), in row-major order.
[[nodiscard]] at::Tensor keyed_uniform(KeyedRandom random, at::IntArrayRef shape, double low,
                                       double high);

/// fill_by_rule(): a float32 model in eval mode.
[[nodiscard]] TwoTower ruled_model(const TwoTowerOptions& options, std::uint64_t seed);

/// ruled_volumes(): [B,1,X,Y,Z] float32 in [0, 1).
[[nodiscard]] at::Tensor ruled_volumes(std::uint64_t seed, std::uint64_t place,
                                       const std::vector<std::int64_t>& shape);

/// ruled_tokens(): token ids and mask, both [B, longest] int64.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> ruled_tokens(
    std::uint64_t seed, std::uint64_t place, const std::vector<std::int64_t>& lengths,
    std::int64_t vocabulary_size);

}  // namespace triphase::models::test
