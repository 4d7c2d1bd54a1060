// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <mpi.h>

#include <memory>

namespace triphase::dist {

/// A group over a duplicate of `comm`, which the group frees. MPI must be initialised, and must not
/// be finalized before the group is gone. Collective over comm.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_mpi_group(MPI_Comm comm, double timeout_seconds);

}  // namespace triphase::dist
