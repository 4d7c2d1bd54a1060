// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/device_transport.hpp"
#include "dist/process_group.hpp"
#include "dist/rank_record.hpp"
#include "dist/transport.hpp"

#include <cstdint>
#include <memory>

namespace triphase::dist {

/// Sizes at which the algorithm changes. The result does not depend on them; tests make them small.
struct HostGroupLimits {
  std::int64_t small_bytes = 262144;   ///< up to here (over all ranks): gather all, sum here
  std::int64_t chunk_bytes = 8388608;  ///< above: this much at a time, and as much scratch
};

/// A process group on host memory over any transport.
/// @param record where the collectives of the rank are noted; null: in one of the group's own
[[nodiscard]] std::unique_ptr<ProcessGroup> make_host_group(
    std::unique_ptr<Transport> transport, std::shared_ptr<RankRecord> record = nullptr,
    HostGroupLimits limits = {});

/// Tensors of the device go by it from now on; those of the host, and what the ranks agree on before
/// each collective, as before. Of a group made by make_host_group. Connects. Collective over the
/// group.
void add_device(ProcessGroup& group, std::unique_ptr<DeviceTransport> device);

/// Of a group made by make_host_group. Same values on every rank.
void set_limits(ProcessGroup& group, HostGroupLimits limits);

/// Of a group made by make_host_group and of those split from it.
void set_timeout(ProcessGroup& group, double seconds);

/// The collectives of a group made by make_host_group, of those split from it and of the one it was
/// split from.
[[nodiscard]] const RankRecord& rank_record(ProcessGroup& group);

/// Whether a call failed in a way after which the ranks no longer know each other's state.
[[nodiscard]] bool is_broken(const ProcessGroup& group);

/// Whether the group has a device: a collective on its tensors is begun by the call and goes on by itself.
/// Purely local.
[[nodiscard]] bool has_device(const ProcessGroup& group);

/// Whether one thread may use the group while another uses one split from it: MPI may forbid it, and
/// two streams of collectives on one device may wait for each other. Purely local.
[[nodiscard]] bool allows_threads(const ProcessGroup& group);

}  // namespace triphase::dist
