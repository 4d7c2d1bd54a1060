// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "dist/process_group.hpp"

namespace triphase::trainer {

/// Bytes that travel at once: what a rank holds beside the tensor.
inline constexpr std::int64_t kBroadcastPieceBytes = std::int64_t{16} << 20;

/// Gives every rank's tensor the values of rank 0's, in place. It may lie in memory in any order, the
/// same one on all ranks, without gaps; what is not on the host goes through it.
/// @throws CommError. Collective over group.
void broadcast_values(const at::Tensor& tensor, dist::ProcessGroup& group,
                      std::int64_t piece_bytes = kBroadcastPieceBytes);

}  // namespace triphase::trainer
