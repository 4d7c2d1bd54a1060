// SPDX-License-Identifier: Apache-2.0
#include "dist/mpi_wait.hpp"

#include "dist/mpi_try.hpp"
#include "dist/poll_pause.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace triphase::dist {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr Seconds kRollCallLimit{1.0};  // ranks that wait look every 50 us
constexpr std::size_t kMostRanksNamed = 8;

double since(Clock::time_point start) { return Seconds(Clock::now() - start).count(); }

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
  while (!all_done(hearing) && since(start) < kRollCallLimit.count()) poll_pause(since(start));
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

/// What the ranks of `comm` are called in the whole job.
std::vector<int> world_ranks(MPI_Comm comm, const std::vector<int>& ranks) {
  MPI_Group part = MPI_GROUP_NULL;
  MPI_Group world = MPI_GROUP_NULL;
  MPI_TRY(MPI_Comm_group(comm, &part));
  MPI_TRY(MPI_Comm_group(MPI_COMM_WORLD, &world));
  std::vector<int> translated(ranks.size());
  MPI_TRY(MPI_Group_translate_ranks(part, static_cast<int>(ranks.size()), ranks.data(), world,
                                    translated.data()));
  MPI_TRY(MPI_Group_free(&part));
  MPI_TRY(MPI_Group_free(&world));
  return translated;
}

/// Of the ranks that gave up, the lowest tells. One that came late, when the others had, does not.
bool is_spokesman(MPI_Comm comm, const std::vector<int>& silent, bool is_late) {
  int rank = 0;
  MPI_TRY(MPI_Comm_rank(comm, &rank));
  int lowest = 0;
  while (std::find(silent.begin(), silent.end(), lowest) != silent.end()) ++lowest;
  return !is_late && rank == lowest;
}

std::string list_ranks(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size() && i < kMostRanksNamed; ++i)
    text += str(i == 0 ? "rank " : ", rank ", ranks[i]);
  if (ranks.size() > kMostRanksNamed) text += str(" and ", ranks.size() - kMostRanksNamed, " more");
  return text;
}

[[noreturn]] void give_up(MPI_Comm comm, double waited_seconds, MpiWatch& watch) {
  const std::vector<int> silent = call_roll(comm);
  const bool is_late = silent.empty() && waited_seconds < watch.timeout_seconds;
  watch.is_spokesman = is_spokesman(comm, silent, is_late);
  const std::string waited = str("waited ", waited_seconds, " s");
  if (silent.empty())
    throw CommError(waited + "; the other ranks had given up waiting for this one. Look at their "
                             "logs, or raise distributed.timeout_seconds.",
                    ExitCode::kTimeout);
  const std::vector<int> missing = world_ranks(comm, silent);
  watch.set_missing(missing);
  const bool is_any_gone = std::any_of(missing.begin(), missing.end(),
                                       [&](int rank) { return watch.peers.is_gone(rank); });
  if (is_any_gone) watch.is_spokesman = false;  // its supervisor tells, who knows more
  CommError error(str(waited, " for ", list_ranks(missing),
                      ". Look at the log of the rank that did not come, or raise "
                      "distributed.timeout_seconds."),
                  is_any_gone ? ExitCode::kCommunication : ExitCode::kTimeout);
  for (std::size_t i = 0; i < missing.size() && i < kMostRanksNamed; ++i)
    error.add_context(watch.peers.describe(missing[i]));
  throw error;
}

}  // namespace

void mpi_wait(std::span<MPI_Request> requests, MPI_Comm comm, MpiWatch& watch) {
  const auto start = Clock::now();
  while (!all_done(requests)) {
    const double waited = since(start);
    const bool is_slow = waited > kSpinSeconds;
    if (waited > watch.timeout_seconds || (is_slow && roll_is_called(comm)))
      give_up(comm, waited, watch);
    poll_pause(since(start));
  }
}

}  // namespace triphase::dist
