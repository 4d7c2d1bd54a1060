// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "dist/process_group.hpp"

namespace triphase::dist {

/// This machine's name, or "unknown host".
[[nodiscard]] std::string host_name();

/// The ranks of `group` that give the same `host`, in their order: those of one node. Where two
/// nodes have one name the group spans both, which costs time and changes no result. Collective
/// over group.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_node_group(ProcessGroup& group,
                                                            const std::string& host = host_name());

}  // namespace triphase::dist
