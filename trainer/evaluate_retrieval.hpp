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

/// {n, image_to_text: {recall_at_1, recall_at_5, recall_at_10, median_rank}, text_to_image: {...}}.
[[nodiscard]] Json score_retrieval(const at::Tensor& image, const at::Tensor& text);

}  // namespace triphase::trainer
