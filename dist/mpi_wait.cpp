// SPDX-License-Identifier: Apache-2.0
#include "dist/mpi_wait.hpp"

#include "dist/mpi_try.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace triphase::dist {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr Seconds kSpin{0.005};         // longer than a transfer among ranks that are all there
constexpr Seconds kRollCallLimit{2.0};  // ranks that wait look every 50 us
constexpr int kMostRanksNamed = 16;

double since(Clock::time_point start) { return Seconds(Clock::now() - start).count(); }

void pause_before_next_look(Clock::time_point start) {
  if (since(start) < kSpin.count())
    sched_yield();
  else
    std::this_thread::sleep_for(std::chrono::microseconds(50));
}

bool all_done(std::span<MPI_Request> requests) {
  int done = 0;
  MPI_TRY(
      MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE));
  return done != 0;
}

bool roll_is_called(MPI_Comm comm) {
  int waiting = 0;
  MPI_TRY(MPI_Iprobe(MPI_ANY_SOURCE, kRollCallTag, comm, &waiting, MPI_STATUS_IGNORE));
  return waiting != 0;
}

/// Tells everyone and returns the ranks that said nothing.
std::vector<int> call_roll(MPI_Comm comm) {
  int rank = 0;
  int num_ranks = 0;
  MPI_TRY(MPI_Comm_rank(comm, &rank));
  MPI_TRY(MPI_Comm_size(comm, &num_ranks));
  std::vector<MPI_Request> hearing(static_cast<std::size_t>(num_ranks), MPI_REQUEST_NULL);
  for (int r = 0; r < num_ranks; ++r) {
    if (r == rank) continue;
    MPI_Request sending = MPI_REQUEST_NULL;  // empty messages leave at once
    MPI_TRY(MPI_Isend(nullptr, 0, MPI_BYTE, r, kRollCallTag, comm, &sending));
    MPI_TRY(MPI_Request_free(&sending));
    MPI_TRY(MPI_Irecv(nullptr, 0, MPI_BYTE, r, kRollCallTag, comm,
                      &hearing[static_cast<std::size_t>(r)]));
  }
  const auto start = Clock::now();
  while (!all_done(hearing) && since(start) < kRollCallLimit.count()) pause_before_next_look(start);
  std::vector<int> silent;
  for (int r = 0; r < num_ranks; ++r) {
    MPI_Request& request = hearing[static_cast<std::size_t>(r)];
    if (request == MPI_REQUEST_NULL) continue;
    int done = 0;
    MPI_TRY(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    if (done != 0) continue;
    silent.push_back(r);
    MPI_TRY(MPI_Cancel(&request));
    MPI_TRY(MPI_Request_free(&request));
  }
  return silent;
}

[[noreturn]] void give_up(MPI_Comm comm, double waited_seconds) {
  const std::vector<int> silent = call_roll(comm);
  std::string message = str("waited ", waited_seconds, " s");
  if (silent.empty()) {
    message += "; the other ranks had given up waiting for this one";
  } else {
    message += " for ";
    for (std::size_t i = 0; i < silent.size() && i < kMostRanksNamed; ++i)
      message += str(i == 0 ? "rank " : ", rank ", silent[i]);
    if (silent.size() > kMostRanksNamed)
      message += str(" and ", silent.size() - kMostRanksNamed, " more");
  }
  throw CommError(message +
                      ". Look at the log of the rank that did not come, or raise "
                      "distributed.timeout_seconds.",
                  ExitCode::kTimeout);
}

}  // namespace

void mpi_wait(std::span<MPI_Request> requests, MPI_Comm comm, double timeout_seconds) {
  const auto start = Clock::now();
  while (!all_done(requests)) {
    const double waited = since(start);
    const bool is_slow = waited > kSpin.count();
    if (waited > timeout_seconds || (is_slow && roll_is_called(comm))) give_up(comm, waited);
    pause_before_next_look(start);
  }
}

}  // namespace triphase::dist
