// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace triphase::trainer {

/// Place of row i's own partner among all columns, 1 the best. Equal similarities go by index: a
/// lower one comes first. @param queries [N,E] unit rows; @param keys [N,E] unit rows, partner of
/// row i is key i
[[nodiscard]] std::vector<std::int64_t> partner_ranks(const at::Tensor& queries,
                                                      const at::Tensor& keys);

/// {n, image_to_text: {recall_at_1, recall_at_5, recall_at_10, recall_at_50, median_rank}, text_to_image: {...}, pools}.
/// pools: [{size, num_pools, image_to_text, text_to_image}] for 32, 64 and 128 pairs where so many are there: the
/// samples, in an order keyed by seed, cut into pools of that size (the rest left out), ranks taken within a pool.
[[nodiscard]] Json score_retrieval(const at::Tensor& image, const at::Tensor& text, std::uint64_t seed = 0);

}  // namespace triphase::trainer
