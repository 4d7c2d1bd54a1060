// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <span>

namespace triphase::dist {

/// Ranks send this to each other when they give up waiting; see mpi_wait().
inline constexpr int kRollCallTag = 7001;
inline constexpr int kDataTag = 7000;

/// Waits until all requests are done: first spinning, then looking every 50 us.
/// A rank that has waited `timeout_seconds` calls the roll: it tells every other rank of `comm`
/// that it gives up, and listens a moment who says the same. Ranks that wait in the same group hear
/// the call and join it, so all that are able to throw do so together, and name those that did not
/// answer.
/// @throws CommError with kTimeout after the deadline; the requests are then still in flight and
/// their memory
///         must never be freed
void mpi_wait(std::span<MPI_Request> requests, MPI_Comm comm, double timeout_seconds);

}  // namespace triphase::dist
