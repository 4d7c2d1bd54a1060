// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"
#include "dist/process_group.hpp"
#include "dist/rank_record.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace triphase::dist {

struct RuntimeOptions {
  /// "auto": mpi when started by a launcher with several ranks, else self; or "self", "mpi"; or
  /// "nccl": mpi, and use_nccl()
  std::string backend = "auto";
  double timeout_seconds = 600;  ///< a collective that takes longer ends the job with 78
  SharedRecord record = {};      ///< of supervise(); empty: the Runtime makes one
};

/// Owns MPI for the life of the program: a local variable of main. Initialised with
/// MPI_THREAD_MULTIPLE where the library has it (SERIALIZED is accepted, less is refused), errors
/// returned and not fatal.
class Runtime {
 public:
  /// @throws CommError when MPI cannot start as wanted; ConfigError for another backend, for "self"
  ///         with several tasks, and when the launcher says that there are several tasks and MPI
  ///         sees one (they do not fit together)
  explicit Runtime(const RuntimeOptions& options = {});
  /// The ranks of `whole` with an equal color, which has its place, GPU and record and must outlive
  /// it; set_timeout() of one is that of both. GPUs are given out over the whole: a part has NCCL when
  /// `whole` has. While parts work, `whole` is left alone. Collective over whole.world().
  Runtime(Runtime& whole, int color);
  /// Finalizes MPI. After an error that other ranks may not know of, call end_job() instead.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] ProcessGroup& world();
  [[nodiscard]] int rank() const;
  [[nodiscard]] int num_ranks() const;
  [[nodiscard]] int local_rank() const;  ///< among the ranks of this host
  [[nodiscard]] int local_num_ranks() const;
  [[nodiscard]] const std::string& host() const;
  /// The number of this rank's GPU on its host; 0 before use_nccl() and with one rank.
  [[nodiscard]] int gpu() const;
  [[nodiscard]] static std::string library_version();  ///< e.g. "Open MPI v4.1.4"

  void set_timeout(double seconds);
  [[nodiscard]] double timeout_seconds() const;
  /// From now on tensors on this rank's GPU travel by NCCL, those of the host as before. Of one rank
  /// only looks whether it could.
  /// @throws AgreedError when on any rank CUDA, a GPU or NCCL is missing or does not fit, or ranks
  ///         would share a GPU; CommError when the connection does not stand. Collective over world;
  ///         begins with agree().
  void use_nccl();
  /// What this rank did last.
  [[nodiscard]] RankRecord& record();
  /// Ends every rank of the job with the error's exit code and does not return (MPI_Abort, or _Exit).
  /// After a CommError this rank writes its record to its log first, and those of the ranks of this
  /// host that did not come.
  /// @param tell prints the error. Of ranks that gave up together on one that did not come, only the
  ///        lowest calls it; the others wait to be ended, and tell if that takes long.
  [[noreturn]] void end_job(const Error& error, const std::function<void()>& tell);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Whether every rank is well. Failures that may differ between ranks go through here before the
/// next collective.
/// @param error this rank's trouble, or nothing
/// @throws AgreedError on all ranks when any has an error: of the lowest failing rank, with its
/// kind, its exit
///         code and its message (with several ranks, "rank 2 of 3: " stands before it). Collective
///         over group.
void agree(ProcessGroup& group, const std::optional<Error>& error);

/// An error whose failing rank is already known to all: printed once, by that rank or rank 0.
class AgreedError : public Error {
 public:
  AgreedError(int rank, const Error& cause)
      : Error(cause.kind(), cause.what(), cause.exit_code()), rank_(rank) {}
  AgreedError(int rank, std::string kind, std::string message, ExitCode code)
      : Error(kind, std::move(message), code), rank_(rank) {}
  [[nodiscard]] int failing_rank() const { return rank_; }

 private:
  int rank_;
};

/// What an exception is to a user: an Error as it is; memory that ran out, with what to do about it (71 on a GPU);
/// anything else an InternalError with its own words.
[[nodiscard]] Error error_of(const std::exception& caught);

/// Runs `action` and agrees on its outcome: throws on all ranks when it threw on any. Collectives within
/// `action` must begin with agree(), so that a rank that fails before one is heard by those in it.
template <class Action>
void agree_on(ProcessGroup& group, Action&& action) {
  std::optional<Error> error;
  try {
    action();
  } catch (const AgreedError&) {
    throw;  // from a collective within: every rank has it already
  } catch (const std::exception& caught) {
    error = error_of(caught);
  }
  agree(group, error);
}

/// @throws AgreedError of kind CommError on every rank when `value` is not the same text on all,
/// naming `what` and the ranks. Collective over group.
void agree_equal(ProcessGroup& group, const std::string& value, const std::string& what);

/// True when any rank says true. Collective over group.
[[nodiscard]] bool any_rank(ProcessGroup& group, bool value);

/// rank 0's text on every rank. Collective over group.
[[nodiscard]] std::string broadcast_text(ProcessGroup& group, const std::string& text,
                                         int root = 0);

/// All ranks' texts on every rank: those of rank 0 in their order, then those of rank 1, and so on.
/// For few texts: each travels by itself. Collective over group.
[[nodiscard]] std::vector<std::string> gather_texts(ProcessGroup& group,
                                                    const std::vector<std::string>& texts);

}  // namespace triphase::dist
