// SPDX-License-Identifier: Apache-2.0
#include "dist/reduce_queue.hpp"

#include "dist/collective_place.hpp"
#include "dist/tree_sum.hpp"
#include "dist/wire_dtype.hpp"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>

// Note [Thread of reductions]
// It has a group of its own: the main thread makes collectives within backward (the loss, batch
// norms, agreement), and a group's calls have one order on all ranks. It calls no kernel of ATen's
// that would start threads, which would compete with those of backward.

namespace triphase::dist {

struct ReduceQueue::Shared {
  Shared(std::unique_ptr<ProcessGroup> own, ProcessGroup& all_ranks, std::vector<at::Tensor> buffers,
         ReduceQueueOptions how)
      : own_group(std::move(own)), group(all_ranks), flats(std::move(buffers)), options(how) {}

  std::unique_ptr<ProcessGroup> own_group;
  ProcessGroup& group;
  std::vector<at::Tensor> flats;
  ReduceQueueOptions options;

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::size_t> queue;
  std::vector<BucketRecord> log;
  std::exception_ptr error;
  bool is_busy = false;
  bool is_ending = false;

  [[nodiscard]] bool is_idle() const { return queue.empty() && !is_busy; }
};

namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// How long a reduction on its way may take when the queue ends.
constexpr std::chrono::seconds kFarewell{1};

WorkPtr sum_scattered(ProcessGroup& group, const at::Tensor& sent, const at::Tensor& flat) {
  WorkPtr work = group.reduce_scatter(sent);
  const at::Tensor sums = work->wait();
  if (group.num_ranks() > 1) copy_widening(sums, flat, group.rank() * sums.numel());
  return work;
}

/// Sums `flat` in place. See Note [Thread of reductions].
void sum_over_ranks(ProcessGroup& group, const at::Tensor& flat, const ReduceQueueOptions& options,
                    BucketRecord& record) {
  if (options.is_ordered) {
    const TreeSumCost cost = sum_over_rank_tree(group, flat);
    record.bytes = cost.bytes;
    record.sent_seconds = cost.start_seconds;
    record.done_seconds = cost.end_seconds;
    return;
  }
  // One rank sends nothing, so nothing is rounded.
  const bool is_narrowed = options.is_wire_bfloat16 && group.num_ranks() > 1 &&
                           flat.scalar_type() != at::kBFloat16;
  const at::Tensor sent = is_narrowed ? rounded_to_bfloat16(flat) : flat;
  WorkPtr work;
  if (options.is_scattered) {
    work = sum_scattered(group, sent, flat);
  } else {
    work = group.all_reduce(sent, ReduceOp::kSum);
    static_cast<void>(work->wait());
    if (is_narrowed) copy_widening(sent, flat, 0);
  }
  record.bytes = work->bytes();
  record.sent_seconds = work->start_seconds();
  record.done_seconds = work->end_seconds();
}

}  // namespace

ReduceQueue::ReduceQueue(ProcessGroup& group, std::vector<at::Tensor> flats,
                         ReduceQueueOptions options)
    : shared_(std::make_shared<Shared>(nullptr, group, std::move(flats), options)) {
  begin();
}

ReduceQueue::ReduceQueue(std::unique_ptr<ProcessGroup> own_group, std::vector<at::Tensor> flats,
                         ReduceQueueOptions options) {
  ProcessGroup& group = *own_group;
  shared_ = std::make_shared<Shared>(std::move(own_group), group, std::move(flats), options);
  begin();
  thread_ = std::thread([shared = shared_] { work(shared); });
}

ReduceQueue::~ReduceQueue() {
  if (!has_thread()) return;
  std::unique_lock lock(shared_->mutex);
  shared_->is_ending = true;
  shared_->changed.notify_all();
  const bool is_over =
      shared_->changed.wait_for(lock, kFarewell, [&] { return !shared_->is_busy; });
  lock.unlock();
  if (is_over)
    thread_.join();
  else
    thread_.detach();
}

void ReduceQueue::begin() {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->is_idle(); });
  shared_->log.assign(shared_->flats.size(), {});
  shared_->error = nullptr;
}

void ReduceQueue::send(std::size_t flat, double ready_seconds) {
  std::unique_lock lock(shared_->mutex);
  BucketRecord& record = shared_->log[flat];
  record.ready_seconds = ready_seconds;
  if (!has_thread()) {
    sum_over_ranks(shared_->group, shared_->flats[flat], shared_->options, record);
    return;
  }
  if (shared_->error) return;  // on every rank, as a reduction fails on all
  shared_->queue.push_back(flat);
  shared_->changed.notify_all();
}

void ReduceQueue::wait() {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->is_idle(); });
  if (shared_->error) std::rethrow_exception(shared_->error);
}

std::vector<BucketRecord> ReduceQueue::log() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->log;
}

void ReduceQueue::work(const std::shared_ptr<Shared>& shared) {
  const CollectivePlace place("gradients, during backward");
  std::unique_lock lock(shared->mutex);
  while (true) {
    shared->changed.wait(lock, [&] { return shared->is_ending || !shared->queue.empty(); });
    if (shared->is_ending) return;
    const std::size_t flat = shared->queue.front();
    shared->queue.pop_front();
    shared->is_busy = true;
    shared->log[flat].sent_seconds = now_seconds();
    BucketRecord record = shared->log[flat];
    lock.unlock();
    std::exception_ptr error;
    try {
      sum_over_ranks(shared->group, shared->flats[flat], shared->options, record);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    shared->log[flat] = record;
    shared->is_busy = false;
    if (error) {
      shared->error = error;
      shared->queue.clear();
    }
    shared->changed.notify_all();
  }
}

}  // namespace triphase::dist
