// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "dist/process_group.hpp"
#include "models/two_tower.hpp"
#include "trainer/build_model.hpp"

namespace triphase::trainer {

/// build_base_model(), or what a test puts in its place.
using ReadModel = std::function<models::TwoTower(const RunConfig& config)>;

/// Bytes that travel at once: a node holds one copy of the weights a rank and this much more.
inline constexpr std::int64_t kWeightsPieceBytes = std::int64_t{16} << 20;

/// build_base_model() on the first rank of each node; the others open no file of weights and
/// receive the values. "random" weights are drawn by each rank. An error of any reader is thrown on
/// all ranks.
/// @param node the ranks of `group` on this node (dist::make_node_group())
/// @return the same bits on all ranks of a node
/// @throws AgreedError of the reader's kind and exit code. Collective over group and node.
[[nodiscard]] models::TwoTower build_base_model_on_nodes(const RunConfig& config,
                                                         dist::ProcessGroup& group,
                                                         dist::ProcessGroup& node,
                                                         const ReadModel& read = build_base_model);

/// Gives every rank of `node` the parameters and buffers of its rank 0, in the model's order and in
/// place. The ranks' models are of one structure, their tensors contiguous.
/// @throws CommError. Collective over node.
void broadcast_weights(models::TwoTower& model, dist::ProcessGroup& node,
                       std::int64_t piece_bytes = kWeightsPieceBytes);

}  // namespace triphase::trainer
