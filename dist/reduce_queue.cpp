// SPDX-License-Identifier: Apache-2.0
#include "dist/reduce_queue.hpp"

#include "dist/collective_place.hpp"
#include "dist/runtime.hpp"
#include "dist/tree_sum.hpp"
#include "dist/wire_dtype.hpp"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

// Note [Thread of reductions]
// It has a group of its own: the main thread makes collectives within backward (the loss, batch
// norms, agreement), and a group's calls have one order on all ranks. It calls no kernel of ATen's
// that would start threads, which would compete with those of backward.

namespace triphase::dist {

namespace {

/// A sum on its way.
struct Flight {
  std::size_t flat = 0;
  at::Tensor sent;
  WorkPtr work;
};

}  // namespace

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
  std::deque<Flight> flights;  ///< deferred
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

/// One rank sends nothing, so nothing is rounded.
bool is_narrowed(const ProcessGroup& group, const at::Tensor& flat,
                 const ReduceQueueOptions& options) {
  return options.is_wire_bfloat16 && group.num_ranks() > 1 && flat.scalar_type() != at::kBFloat16;
}

Flight start_sum(ProcessGroup& group, const at::Tensor& flat, const ReduceQueueOptions& options) {
  Flight flight;
  flight.sent = is_narrowed(group, flat, options) ? rounded_to_bfloat16(flat) : flat;
  flight.work = options.is_scattered ? group.reduce_scatter(flight.sent)
                                     : group.all_reduce(flight.sent, ReduceOp::kSum);
  return flight;
}

/// Waits for the sum and brings it to where it belongs in `flat`.
void finish_sum(const Flight& flight, const ProcessGroup& group, const at::Tensor& flat,
                const ReduceQueueOptions& options, BucketRecord& record) {
  const at::Tensor sums = flight.work->wait();
  if (options.is_scattered && group.num_ranks() > 1)
    copy_widening(sums, flat, group.rank() * sums.numel());
  else if (is_narrowed(group, flat, options))
    copy_widening(flight.sent, flat, 0);
  record.bytes = flight.work->bytes();
  record.sent_seconds = flight.work->start_seconds();
  record.done_seconds = flight.work->end_seconds();
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
  finish_sum(start_sum(group, flat, options), group, flat, options, record);
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
  finish_flights();
  shared_->log.assign(shared_->flats.size(), {});
  shared_->error = nullptr;
}

void ReduceQueue::send(std::size_t flat, double ready_seconds) {
  std::unique_lock lock(shared_->mutex);
  BucketRecord& record = shared_->log[flat];
  record.ready_seconds = ready_seconds;
  if (shared_->options.is_deferred) {
    const CollectivePlace place("gradients, during backward");
    agree(shared_->group, std::nullopt);  // a rank whose backward failed is at the end of agree_on()
    Flight flight = start_sum(shared_->group, shared_->flats[flat], shared_->options);
    flight.flat = flat;
    record.sent_seconds = flight.work->start_seconds();
    shared_->flights.push_back(std::move(flight));
    return;
  }
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
  finish_flights();
  if (shared_->error) std::rethrow_exception(shared_->error);
}

/// The first that fails ends them all: its group cannot be used then.
void ReduceQueue::finish_flights() {
  const std::deque<Flight> flights = std::exchange(shared_->flights, {});
  for (const Flight& flight : flights)
    finish_sum(flight, shared_->group, shared_->flats[flight.flat], shared_->options,
               shared_->log[flight.flat]);
}

bool ReduceQueue::has_overlap() const { return has_thread() || is_deferred(); }
bool ReduceQueue::is_deferred() const { return shared_->options.is_deferred; }

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
