// SPDX-License-Identifier: Apache-2.0
#include "dist/gradient_reducer.hpp"

#include "base/hash.hpp"
#include "dist/host_group.hpp"
#include "dist/runtime.hpp"
#include "dist/spare_cores.hpp"
#include "dist/tree_sum.hpp"

#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <chrono>

// Note [Overlap on a device]
// There a collective goes on by itself once it is begun, so the hook of a bucket's last gradient begins
// it and backward goes on: no thread, and no second communicator, which could wait for the first on the
// device. The hooks run in the one thread in which autograd computes the device's gradients, in the
// same order on every rank, while the thread that called backward() waits; should the orders differ,
// the agreement before each collective says so.

namespace triphase::dist {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// See Note [Overlap on a device].
bool is_deferred(ProcessGroup& group, Overlap overlap) {
  if (overlap == Overlap::kOff || any_rank(group, !has_device(group))) return false;
  return overlap == Overlap::kOn || group.num_ranks() > 1;
}

bool wants_thread(ProcessGroup& group, Overlap overlap) {
  if (overlap == Overlap::kOff) return false;
  if (overlap == Overlap::kAuto)
    return group.num_ranks() > 1 && !any_rank(group, !allows_threads(group)) &&
           has_spare_cpus(group);
  agree_on(group, [&] {
    TRIPHASE_CHECK(ConfigError, allows_threads(group),
                   "distributed.overlap is 'on', and the backend ", group.backend(),
                   " lets one thread at a time call it (mpi without MPI_THREAD_MULTIPLE). Use "
                   "'auto'.");
  });
  return true;
}

std::vector<at::Tensor> flats_of(const std::vector<GradientBucket>& buckets) {
  std::vector<at::Tensor> flats;
  for (const GradientBucket& bucket : buckets) flats.push_back(bucket.flat);
  return flats;
}

std::unique_ptr<ReduceQueue> make_queue(ProcessGroup& group,
                                        const std::vector<GradientBucket>& buckets,
                                        const GradientReducerOptions& options) {
  const ReduceQueueOptions how{.is_wire_bfloat16 = options.wire_dtype == WireDtype::kBfloat16,
                               .is_scattered = options.is_sharded,
                               .is_ordered = options.is_ordered,
                               .is_deferred = !options.is_ordered && is_deferred(group, options.overlap)};
  if (options.is_ordered || how.is_deferred || !wants_thread(group, options.overlap))
    return std::make_unique<ReduceQueue>(group, flats_of(buckets), how);
  return std::make_unique<ReduceQueue>(group.split(0, group.rank()), flats_of(buckets), how);
}

}  // namespace

struct GradientReducer::State {
  ProcessGroup& group;
  bool is_sharded = false;
  std::vector<GradientBucket> buckets = {};
  TreeSum leaves = {};
  std::uint64_t layout_hash = 0;
  std::unique_ptr<ReduceQueue> queue = {};
  std::vector<ReadyHook*> hooks = {};  ///< one for each slot, in order; the parameters own them
  bool is_armed = false;
  bool has_begun = false;                   ///< buckets of this step may have left
  std::size_t next = 0;                     ///< the first bucket that has not left
  std::vector<std::int64_t> missing = {};   ///< gradients that each bucket still waits for
  std::vector<double> ready_seconds = {};

  void begin();
  void on_gradient(std::size_t bucket, const GradientSlot& slot);
  void send_all();
  [[nodiscard]] int num_parts() const { return is_sharded ? group.num_ranks() : 1; }
  [[nodiscard]] int own_part() const { return is_sharded ? group.rank() : 0; }
};

/// Tells when a parameter's gradient is there.
class GradientReducer::ReadyHook final : public torch::autograd::PostAccumulateGradHook {
 public:
  ReadyHook(State& state, std::size_t bucket, const GradientSlot& slot)
      : state_(state), bucket_(bucket), slot_(slot) {}
  void operator()(const torch::autograd::Variable& /*parameter*/) override {
    if (!state_.is_armed) return;
    TRIPHASE_CHECK(InternalError, !has_come, "the gradient of '", slot_.name,
                   "' came twice in the last backward pass of a step");
    has_come = true;
    state_.on_gradient(bucket_, slot_);
  }

  bool has_come = false;  ///< in this last pass

 private:
  State& state_;
  std::size_t bucket_;
  const GradientSlot& slot_;
};

namespace {

void check_own_gradient(const GradientSlot& slot) {
  TRIPHASE_CHECK(InternalError, slot.tensor.grad().is_same(slot.view), "the gradient of '",
                 slot.name,
                 "' is no longer the reducer's own (somebody replaced or dropped it). Use "
                 "zero_gradients().");
}

}  // namespace

void GradientReducer::State::begin() {
  queue->begin();
  has_begun = true;
  next = 0;
  ready_seconds.assign(buckets.size(), 0);
  missing.clear();
  for (const GradientBucket& bucket : buckets)
    missing.push_back(static_cast<std::int64_t>(bucket.slots.size()));
  for (ReadyHook* hook : hooks) hook->has_come = false;
}

// See Note [Gradient order].
void GradientReducer::State::on_gradient(std::size_t bucket, const GradientSlot& slot) {
  check_own_gradient(slot);
  if (--missing[bucket] > 0) return;
  ready_seconds[bucket] = now_seconds();
  for (; next < buckets.size() && missing[next] == 0; ++next)
    queue->send(next, ready_seconds[next]);
}

void GradientReducer::State::send_all() {
  const double now = now_seconds();
  for (; next < buckets.size(); ++next)
    queue->send(next, missing[next] == 0 ? ready_seconds[next] : now);
}

GradientReducer::GradientReducer(ProcessGroup& group,
                                 std::vector<std::pair<std::string, at::Tensor>> parameters,
                                 GradientReducerOptions options)
    : state_(std::make_unique<State>(State{group, options.is_sharded})) {
  TRIPHASE_CHECK(InternalError,
                 !options.is_ordered ||
                     (options.overlap != Overlap::kOn && !options.is_sharded &&
                      options.wire_dtype == WireDtype::kGradient),
                 "ordered sums exclude overlap, sharding and a narrower wire");
  agree_on(group, [&] {
    state_->buckets = lay_out_gradients(parameters, options.bucket_bytes, state_->num_parts());
  });
  const std::string layout = describe(state_->buckets);
  agree_equal(group, layout, "the trainable parameters");
  state_->layout_hash = xxh3(layout);
  state_->queue = make_queue(group, state_->buckets, options);
  if (!state_->queue->has_overlap()) return;
  for (std::size_t i = 0; i < state_->buckets.size(); ++i) {
    for (const GradientSlot& slot : state_->buckets[i].slots) {
      auto hook = std::make_unique<ReadyHook>(*state_, i, slot);
      state_->hooks.push_back(hook.get());
      torch::autograd::impl::set_post_acc_grad_hooks(slot.tensor, std::move(hook));
    }
  }
}

GradientReducer::~GradientReducer() {
  std::size_t i = 0;
  if (state_->hooks.empty()) return;
  for (const GradientBucket& bucket : state_->buckets) {
    for (const GradientSlot& slot : bucket.slots) {
      const ReadyHook* own = state_->hooks[i++];  // another reducer may have put its own there
      if (torch::autograd::impl::post_acc_grad_hooks(slot.tensor).get() == own)
        torch::autograd::impl::set_post_acc_grad_hooks(slot.tensor, nullptr);
    }
  }
}

void GradientReducer::zero_gradients() {
  for (GradientBucket& bucket : state_->buckets) bucket.flat.zero_();
}

void GradientReducer::end_leaf() {
  state_->leaves.add(flats_of(state_->buckets));
  zero_gradients();
}

void GradientReducer::last_pass(const std::function<void()>& backward) {
  passes([&] {
    arm();
    backward();
  });
}

void GradientReducer::arm() { state_->is_armed = has_overlap(); }

void GradientReducer::passes(const std::function<void()>& backward) {
  if (!has_overlap()) return agree_on(state_->group, backward);
  state_->begin();
  try {
    agree_on(state_->group, backward);
    state_->is_armed = false;
  } catch (const AgreedError&) {
    // Known to all, and nothing is on its way when the caller goes on. A thread has let ranks come apart,
    // so all send the rest; without one all have begun the same sums.
    state_->is_armed = false;
    state_->has_begun = false;
    if (!state_->queue->is_deferred()) state_->send_all();
    state_->queue->begin();
    throw;
  } catch (...) {
    state_->is_armed = false;
    throw;
  }
}

ReduceReport GradientReducer::reduce() {
  for (const GradientBucket& bucket : state_->buckets)
    for (const GradientSlot& slot : bucket.slots) check_own_gradient(slot);
  const double start = now_seconds();
  if (state_->leaves.num_leaves() > 0) {
    const std::vector<at::Tensor> sums = state_->leaves.take();
    for (std::size_t i = 0; i < sums.size(); ++i) state_->buckets[i].flat.copy_(sums[i]);
  }
  if (!state_->has_begun) state_->begin();
  state_->send_all();
  state_->has_begun = false;
  state_->queue->wait();
  ReduceReport report;
  for (const BucketRecord& record : state_->queue->log()) {
    report.bytes += record.bytes;
    report.seconds += record.done_seconds - record.sent_seconds;
  }
  report.num_buckets = num_buckets();
  report.exposed_seconds = now_seconds() - start;
  return report;
}

std::vector<ParameterSlice> GradientReducer::own_slices() const {
  return slices_of_part(state_->buckets, state_->own_part(), state_->num_parts());
}

void GradientReducer::gather(const std::vector<at::Tensor>& values,
                             const std::function<void(std::int64_t, const at::Tensor&)>& take) {
  std::size_t used = 0;
  for (const GradientBucket& bucket : state_->buckets) {
    const std::int64_t length = bucket.flat.numel() / state_->num_parts();
    at::Tensor own = at::zeros({length}, bucket.flat.options());
    std::int64_t at = 0;
    for (const ParameterSlice& slice :
         slices_of_part({bucket}, state_->own_part(), state_->num_parts())) {
      own.narrow(0, at, slice.end - slice.begin).copy_(values.at(used++));
      at += slice.end - slice.begin;
    }
    const at::Tensor whole = state_->is_sharded ? state_->group.all_gather(own)->wait() : own;
    for (const GradientSlot& slot : bucket.slots)
      take(slot.parameter,
           whole.as_strided(slot.tensor.sizes(), slot.tensor.strides(), slot.offset));
  }
}

std::vector<BucketRecord> GradientReducer::log() const { return state_->queue->log(); }
bool GradientReducer::has_overlap() const { return state_->queue->has_overlap(); }
std::uint64_t GradientReducer::layout_hash() const { return state_->layout_hash; }
ProcessGroup& GradientReducer::group() const { return state_->group; }
std::int64_t GradientReducer::num_buckets() const {
  return static_cast<std::int64_t>(state_->buckets.size());
}

}  // namespace triphase::dist
