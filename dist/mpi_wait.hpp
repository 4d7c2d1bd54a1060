// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/rank_peers.hpp"

#include <mpi.h>

#include <atomic>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace triphase::dist {

/// Ranks send this to each other when they give up waiting; see mpi_wait().
inline constexpr int kRollCallTag = 7001;
inline constexpr int kDataTag = 7000;

/// What the mpi groups of a rank share. Two threads may give up at once, each in a group of its own.
class MpiWatch {
 public:
  std::atomic<double> timeout_seconds = 600;
  /// Whether this rank is the one to tell about a rank that did not come. Ranks that give up together
  /// leave the word to the lowest of them.
  std::atomic<bool> is_spokesman = true;
  RankPeers peers;

  /// Ranks of the job that did not come.
  [[nodiscard]] std::vector<int> missing() const {
    const std::lock_guard lock(mutex_);
    return missing_;
  }
  void set_missing(std::vector<int> ranks) {
    const std::lock_guard lock(mutex_);
    missing_ = std::move(ranks);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<int> missing_;
};

/// Waits until all requests are done: first spinning, then looking every 50 us.
/// A rank that has waited for the timeout calls the roll: it tells every other rank of `comm`
/// that it gives up, and listens a moment who says the same. Ranks that wait in the same group hear
/// the call and join it, so all that are able to throw do so together, and name those that did not
/// answer.
/// @throws CommError with kTimeout after the deadline, with kCommunication when the process of a
///         missing rank is seen to have ended; the requests are then still in flight and their memory
///         must never be freed
void mpi_wait(std::span<MPI_Request> requests, MPI_Comm comm, MpiWatch& watch);

}  // namespace triphase::dist
