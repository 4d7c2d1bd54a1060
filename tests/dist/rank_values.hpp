// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

namespace triphase::test {

inline const std::vector<at::ScalarType> kDtypes = {at::kDouble, at::kFloat, at::kBFloat16,
                                                    at::kLong, at::kByte};

/// Rank r's values of element i: floating values span seven powers of ten with both signs, so that
/// a sum in another order has other bits.
[[nodiscard]] at::Tensor rank_values(int rank, at::IntArrayRef sizes, at::ScalarType dtype,
                                     std::uint64_t seed = 0);

/// The sum over ranks of rank_values, added up one rank after another; bfloat16 in float32.
[[nodiscard]] at::Tensor serial_sum(int num_ranks, at::IntArrayRef sizes, at::ScalarType dtype,
                                    std::uint64_t seed = 0);

/// Equal shape, dtype and bytes.
[[nodiscard]] bool same_bits(const at::Tensor& a, const at::Tensor& b);

}  // namespace triphase::test
