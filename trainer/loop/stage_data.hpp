// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/logging.hpp"
#include "dist/process_group.hpp"
#include "trainer/run_config.hpp"

#include <filesystem>

namespace triphase::trainer {

/// Copies the cache's shards to data.staging_dir, one rank of each node; the others wait, however
/// long it takes. What does not fit is read from the cache, and the log says so.
/// @param node the ranks of this node, see dist::make_node_group
/// @return the folder with the copies, for data::Cache; empty without data.staging_dir
/// @throws AgreedError when the cache cannot be read. Collective over group.
[[nodiscard]] std::filesystem::path stage_on_nodes(const RunConfig& config,
                                                   dist::ProcessGroup& group,
                                                   dist::ProcessGroup& node, Logger& log);

}  // namespace triphase::trainer
