// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "dist/process_group.hpp"
#include "models/two_tower.hpp"
#include "trainer/broadcast_values.hpp"
#include "trainer/build_model.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/evaluate_model.hpp"
#include "trainer/optim/optimizer.hpp"

namespace triphase::trainer {

/// build_base_model(), or what a test puts in its place.
using ReadModel = std::function<models::TwoTower(const RunConfig& config)>;

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

/// read_model(), or what a test puts in its place.
using ReadLoadedModel =
    std::function<LoadedModel(const RunConfig& config, const std::string& checkpoint)>;

/// load_model_for_evaluation() that reads on the first rank of each node, likewise; here the others
/// receive "random" weights, too.
/// @throws AgreedError of the reader's kind and exit code. Collective over group and node.
[[nodiscard]] LoadedModel load_model_on_nodes(const RunConfig& config,
                                              const std::string& checkpoint,
                                              const at::Device& device, dist::ProcessGroup& group,
                                              dist::ProcessGroup& node,
                                              const ReadLoadedModel& read = read_model);

/// read_checkpoint() on the first rank of each node, likewise. A sharded optimizer's ranks read
/// their own parts of its file, which no other rank has.
/// @param model the run's, of one structure on all ranks
/// @throws AgreedError of the reader's kind and exit code. Collective over group and node.
void read_checkpoint_on_nodes(const std::filesystem::path& folder, models::TwoTower& model,
                              Optimizer& optimizer, TrainState& state, dist::ProcessGroup& group,
                              dist::ProcessGroup& node);

/// Gives every rank of `node` the parameters and buffers of its rank 0, in the model's order and in
/// place (broadcast_values()). The ranks' models are of one structure and lie in memory alike.
/// @throws CommError. Collective over node.
void broadcast_weights(models::TwoTower& model, dist::ProcessGroup& node,
                       std::int64_t piece_bytes = kBroadcastPieceBytes);

}  // namespace triphase::trainer
