// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>

namespace triphase::dist {

/// out[i] = piece 0[i] (op) piece 1[i] (op) ... in this order, where piece r begins at
/// pieces + r * stride_bytes. bfloat16 is summed in float32 and rounded once. Max and min pass NaN
/// on. `out` must not overlap the pieces. Purely local.
void reduce_in_rank_order(at::ScalarType dtype, ReduceOp op, const std::byte* pieces,
                          std::int64_t stride_bytes, int num_pieces, std::int64_t count,
                          std::byte* out);

}  // namespace triphase::dist
