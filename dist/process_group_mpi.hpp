// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/mpi_wait.hpp"
#include "dist/process_group.hpp"
#include "dist/rank_record.hpp"

#include <mpi.h>

#include <memory>

namespace triphase::dist {

/// Up to so many ranks send to one another directly; more use MPI's collectives. Tests set it to 0.
inline constexpr int kDirectRanks = 16;

/// A group over a duplicate of `comm`, which the group frees. MPI must be initialised, and must not
/// be finalized before the group is gone. Collective over comm.
/// @param record where collectives are noted; null: in one of the group's own
[[nodiscard]] std::unique_ptr<ProcessGroup> make_mpi_group(
    MPI_Comm comm, std::shared_ptr<MpiWatch> watch, std::shared_ptr<RankRecord> record = nullptr,
    int direct_ranks = kDirectRanks);

}  // namespace triphase::dist
