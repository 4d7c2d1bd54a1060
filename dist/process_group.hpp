// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace triphase::dist {

enum class ReduceOp { kSum, kMax, kMin };

/// A collective on its way. The tensors it was given belong to it until wait() returns.
class Work {
 public:
  virtual ~Work() = default;
  /// Blocks until the result is there and returns it.
  /// @throws CommError, with kTimeout after the deadline
  virtual at::Tensor wait() = 0;
  [[nodiscard]] virtual bool done() const = 0;
  /// Bytes this rank put in, for reports.
  [[nodiscard]] virtual std::int64_t bytes() const = 0;
  /// Running number of the collective within its group.
  [[nodiscard]] virtual std::int64_t sequence() const = 0;
  /// When the call began on this rank, and when its result was there (valid once done()): seconds
  /// of the steady clock, so that they can be compared within a process and with nothing else.
  [[nodiscard]] virtual double start_seconds() const = 0;
  [[nodiscard]] virtual double end_seconds() const = 0;
};
using WorkPtr = std::unique_ptr<Work>;

/// Ranks that communicate. Every call is collective over the group, in the same order on every
/// rank, with equal shape and dtype (all_gather and reduce_scatter: equal rows per rank). Tensors
/// are contiguous. dtypes: float64, float32, bfloat16, int64, uint8. Backends: self, threads, mpi
/// (host memory), nccl (that of a GPU, too). Sums are formed in rank order, bfloat16 in float32:
/// every rank gets the same bits, run after run; NCCL adds in an order of its own. With one rank every call returns its input, on whatever device it is.
/// @throws CommError on every rank when on any a tensor is not contiguous, on the wrong device or of
///         another dtype, or when the ranks disagree (named by rank, operation and shape): the group
///         can be used on. CommError with kTimeout when a rank does not come: it cannot be used on.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int num_ranks() const = 0;
  [[nodiscard]] virtual std::string backend() const = 0;  ///< "self", "threads", "mpi", "nccl"

  /// In place; wait() returns the same tensor. Shape free, zero elements allowed.
  [[nodiscard]] virtual WorkPtr all_reduce(at::Tensor tensor, ReduceOp op) = 0;
  /// rows [n,...] -> [num_ranks*n,...] in rank order.
  [[nodiscard]] virtual WorkPtr all_gather(at::Tensor rows) = 0;
  /// rows [num_ranks*n,...] -> [n,...]: the sum over ranks of block `rank`.
  [[nodiscard]] virtual WorkPtr reduce_scatter(at::Tensor rows) = 0;
  /// In place from `root`.
  [[nodiscard]] virtual WorkPtr broadcast(at::Tensor tensor, int root) = 0;
  /// Sends `out` to rank `to` and returns what rank `from` sent here (same shape and dtype).
  [[nodiscard]] virtual WorkPtr send_receive(at::Tensor out, int to, int from) = 0;
  virtual void barrier() = 0;
  /// Ranks of equal color form a group, ordered by (key, rank). Collective over this group.
  [[nodiscard]] virtual std::unique_ptr<ProcessGroup> split(int color, int key) = 0;
};

/// The group of one rank.
[[nodiscard]] std::unique_ptr<ProcessGroup> make_self_group();

/// `num_ranks` groups, one for each thread of this process, that reach each other through memory.
/// Group i is used by one thread. A rank whose group goes away makes the others throw.
[[nodiscard]] std::vector<std::unique_ptr<ProcessGroup>> make_thread_groups(
    int num_ranks, double timeout_seconds = 60);

}  // namespace triphase::dist
