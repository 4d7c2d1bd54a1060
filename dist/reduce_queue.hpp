// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace triphase::dist {

/// One bucket's way, in seconds of the steady clock; 0 until it happens.
struct BucketRecord {
  std::int64_t bytes = 0;    ///< this rank gave to the reduction
  double ready_seconds = 0;  ///< its last gradient was there, or backward was over
  double sent_seconds = 0;   ///< the collective began on this rank
  double done_seconds = 0;
};

struct ReduceQueueOptions {
  bool is_wire_bfloat16 = false;  ///< wider numbers are rounded to bfloat16 for the way
  bool is_scattered = false;      ///< sums reach the part of their rank alone
  bool is_ordered = false;        ///< over the ranks' tree; see sum_over_rank_tree(). Excludes the others
  /// Without a thread: send() begins a sum and wait() awaits it. For groups with a device.
  bool is_deferred = false;
};

/// Sums flat buffers over a group, one after the other in the order in which they are sent: at once,
/// begun at once (is_deferred), or on a thread of its own, which then is the only user of its group.
class ReduceQueue {
 public:
  /// Sums in send() or begins there, over a group of the caller.
  ReduceQueue(ProcessGroup& group, std::vector<at::Tensor> flats, ReduceQueueOptions options);
  /// Sums on a thread, over a group that nobody else uses.
  ReduceQueue(std::unique_ptr<ProcessGroup> own_group, std::vector<at::Tensor> flats,
              ReduceQueueOptions options);
  /// What has not begun never will. A collective that does not end is left behind with its thread.
  ~ReduceQueue();
  ReduceQueue(const ReduceQueue&) = delete;
  ReduceQueue& operator=(const ReduceQueue&) = delete;

  /// Whether the caller goes on while buffers are summed.
  [[nodiscard]] bool has_overlap() const;
  [[nodiscard]] bool is_deferred() const;
  /// Empties log and queue when the last reductions are done. Before the first send() of a step.
  void begin();
  /// Collective over the group, be it later: every rank sends the same buffers in the same order.
  /// @throws CommError when there is no thread; deferred: AgreedError, too, where a rank had failed and
  ///         is at the agreement of agree_on()
  void send(std::size_t flat, double ready_seconds);
  /// Until all that was sent is done. @throws what a reduction threw
  void wait();
  /// One record for each buffer. May be asked at any time.
  [[nodiscard]] std::vector<BucketRecord> log() const;

 private:
  struct Shared;
  [[nodiscard]] bool has_thread() const { return thread_.joinable(); }
  void finish_flights();
  static void work(const std::shared_ptr<Shared>& shared);

  // The thread shares it: one that is left behind must find what it uses.
  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace triphase::dist
