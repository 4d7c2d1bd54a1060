// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/launcher.hpp"
#include "dist/nccl_connection.hpp"
#include "dist/process_group.hpp"

#include <memory>

namespace triphase::dist {

/// Which GPU a rank uses: its number on its host, round the GPUs that it sees. Told apart by their
/// bus addresses, as each rank may see but its own.
/// @param node_group the ranks of one host
/// @param environment may allow several ranks on a GPU: NCCL_MULTI_RANK_GPU_ENABLE=1 (NCCL 2.30 and
///        later), or an NCCL_HOSTID of each rank's own
/// @throws CommError on every rank of the host when two ranks would share a GPU, or one has none.
///         Collective over node_group.
[[nodiscard]] int choose_gpu(ProcessGroup& node_group, const CudaRuntime& cuda,
                             const Environment& environment);

/// The host group `group`, whose ranks move tensors of their GPU with NCCL from now on. What lies in
/// host memory, and what the ranks tell each other before a collective, still goes the host's way.
///
/// What differs from other backends: the order in which NCCL adds is its own, so that float sums
/// are the same bits on every rank but not those of the host. wait() blocks the host.
/// @throws CommError, with kTimeout when the communicator does not stand in time. Collective over
/// group.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_nccl_group(std::unique_ptr<ProcessGroup> group,
                                                            NcclSetup setup);

}  // namespace triphase::dist
