// SPDX-License-Identifier: Apache-2.0
#include "dist/host_group.hpp"

#include "dist/collective_call.hpp"
#include "dist/collective_place.hpp"
#include "dist/group_work.hpp"
#include "dist/rank_order_reduce.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

// Note [Sums in rank order]
// MPI promises no order of summation, so sums are our own. Rank r receives block r of every rank
// (all-to-all), adds the blocks in the order of the ranks, and the sums are gathered. That is the
// traffic of a ring all-reduce, 2 (n-1)/n of the bytes, and the same bits on every rank, run after
// run. Messages too small for that, and the tail that does not divide by the ranks, are gathered
// whole and added by everyone. Long tensors go in chunks, which bounds the scratch memory and
// cannot change an element's sum.

namespace triphase::dist {
namespace {

std::byte* bytes_of(const at::Tensor& tensor) { return static_cast<std::byte*>(tensor.data_ptr()); }
std::int64_t element_bytes(const at::Tensor& tensor) {
  return static_cast<std::int64_t>(tensor.element_size());
}
std::int64_t num_bytes(const at::Tensor& tensor) { return tensor.numel() * element_bytes(tensor); }

at::Tensor empty_rows(const at::Tensor& like, std::int64_t num_rows) {
  std::vector<std::int64_t> sizes = like.sizes().vec();
  sizes[0] = num_rows;
  return at::empty(sizes, like.options());
}

class HostGroup final : public ProcessGroup {
 public:
  HostGroup(std::unique_ptr<Transport> transport, std::shared_ptr<RankRecord> record,
            HostGroupLimits limits)
      : transport_(std::move(transport)),
        state_(std::make_shared<GroupState>(GroupState{std::move(record), std::nullopt})),
        limits_(limits) {}
  ~HostGroup() override;

  [[nodiscard]] int rank() const override { return transport_->rank(); }
  [[nodiscard]] int num_ranks() const override { return transport_->num_ranks(); }
  [[nodiscard]] std::string backend() const override {
    return device_ != nullptr ? device_->backend() : transport_->backend();
  }

  WorkPtr all_reduce(at::Tensor tensor, ReduceOp op) override;
  WorkPtr all_gather(at::Tensor rows) override;
  WorkPtr reduce_scatter(at::Tensor rows) override;
  WorkPtr broadcast(at::Tensor tensor, int root) override;
  WorkPtr send_receive(at::Tensor out, int to, int from) override;
  void barrier() override;
  std::unique_ptr<ProcessGroup> split(int color, int key) override;

  void add_device(std::unique_ptr<DeviceTransport> device);
  void set_limits(HostGroupLimits limits) { limits_ = limits; }
  void set_timeout(double seconds);
  [[nodiscard]] bool is_broken() const { return state_->broken.has_value(); }
  [[nodiscard]] const RankRecord& record() const { return *state_->record; }
  [[nodiscard]] bool has_device() const { return device_ != nullptr; }
  [[nodiscard]] bool allows_threads() const {
    return device_ == nullptr && transport_->allows_threads();
  }

 private:
  /// What other ranks may still write to after a failed call.
  struct Kept {
    std::unique_ptr<Transport> transport;
    std::vector<std::byte> scratch;
    std::vector<at::Tensor> tensors;
  };

  /// Agrees with the other ranks on the call, makes the result's tensor with `make_result()` and moves
  /// the data: by the device, or with `move(result)`.
  template <class MakeResult, class Move>
  WorkPtr run(CollectiveCall call, MakeResult&& make_result, Move&& move);
  [[nodiscard]] bool is_on_device(const at::Tensor& tensor) const {
    return device_ != nullptr && tensor.defined() && tensor.numel() > 0 &&
           tensor.device() == device_->device();
  }
  std::byte* scratch(std::int64_t bytes);
  void all_reduce_small(const at::Tensor& tensor, ReduceOp op, std::int64_t begin,
                        std::int64_t count);
  void all_reduce_blocks(const at::Tensor& tensor, ReduceOp op, std::int64_t begin,
                         std::int64_t block);
  void sum_blocks(const at::Tensor& rows, const at::Tensor& result);

  [[noreturn]] void refuse_after_failure() const;

  std::unique_ptr<Transport> transport_;
  std::unique_ptr<DeviceTransport> device_;  // null: host memory only
  std::shared_ptr<GroupState> state_;        // shared with works that are on their way
  HostGroupLimits limits_;
  std::int64_t sequence_ = 0;
  std::vector<std::byte> scratch_;
  std::vector<at::Tensor> in_flight_;
  bool is_transport_broken_ = false;
};

HostGroup::~HostGroup() {
  if (!is_transport_broken_) return;
  // A transfer that timed out may still arrive: its memory must outlive the group, so it is never
  // freed.
  auto kept = std::make_unique<Kept>(
      Kept{std::move(transport_), std::move(scratch_), std::move(in_flight_)});
  static_cast<void>(kept.release());
}

/// With the code of that failure, which the caller may not have passed on.
void HostGroup::refuse_after_failure() const {
  const CommError& cause = *state_->broken;
  throw CommError(str("this group cannot be used after an earlier failure: ", cause.what()),
                  cause.exit_code());
}

template <class MakeResult, class Move>
WorkPtr HostGroup::run(CollectiveCall call, MakeResult&& make_result, Move&& move) {
  if (is_broken()) refuse_after_failure();
  GroupCall here{.call = std::move(call),
                 .sequence = sequence_++,
                 .num_ranks = num_ranks(),
                 .start_seconds = steady_seconds()};
  check_call(here.call, num_ranks(),
             device_ != nullptr ? std::optional(device_->device()) : std::nullopt);
  if (num_ranks() == 1) {
    TRIPHASE_CHECK(CommError, here.call.problem.empty(), here.call.problem);
    return make_finished_work(here, here.call.tensor);
  }
  if (const CollectivePlace* place = CollectivePlace::current()) {
    here.place_label = place->label();
    here.step = place->step();
  }
  in_flight_ = {here.call.tensor};
  here.ticket = state_->record->begin(here.call, here.sequence, num_ranks());
  try {
    check_ranks_agree(here.call, here.sequence, *transport_);
    at::Tensor result = make_result();
    if (is_on_device(here.call.tensor)) {
      in_flight_.clear();
      auto flight = device_->start(here.call, result, *transport_);
      return make_device_work(std::move(here), std::move(result), std::move(flight), state_);
    }
    in_flight_.push_back(result);
    move(result);
    state_->record->end(here.ticket, /*has_failed=*/false);
    in_flight_.clear();
    return make_finished_work(here, std::move(result));
  } catch (CommError& error) {
    state_->record->end(here.ticket, /*has_failed=*/true);
    error.add_context(here.where());
    is_transport_broken_ = transport_->is_broken();
    if (is_transport_broken_ || (device_ != nullptr && device_->is_broken())) state_->broken = error;
    throw;
  }
}

std::byte* HostGroup::scratch(std::int64_t bytes) {
  if (static_cast<std::int64_t>(scratch_.size()) < bytes)
    scratch_.resize(static_cast<std::size_t>(bytes));
  return scratch_.data();
}

/// Everyone gathers everything and adds it up.
void HostGroup::all_reduce_small(const at::Tensor& tensor, ReduceOp op, std::int64_t begin,
                                 std::int64_t count) {
  const std::int64_t bytes = count * element_bytes(tensor);
  std::byte* data = bytes_of(tensor) + begin * element_bytes(tensor);
  std::byte* pieces = scratch(bytes * num_ranks());
  transport_->all_gather(data, bytes, pieces, bytes);
  reduce_in_rank_order(tensor.scalar_type(), op, pieces, bytes, num_ranks(), count, data);
}

/// `block` elements for each rank, from element `begin` on: each rank adds up its own block.
void HostGroup::all_reduce_blocks(const at::Tensor& tensor, ReduceOp op, std::int64_t begin,
                                  std::int64_t block) {
  const std::int64_t bytes = block * element_bytes(tensor);
  std::byte* data = bytes_of(tensor) + begin * element_bytes(tensor);
  std::byte* pieces = scratch(bytes * num_ranks());
  transport_->all_to_all(data, bytes, bytes, pieces);
  std::byte* own = data + rank() * bytes;
  reduce_in_rank_order(tensor.scalar_type(), op, pieces, bytes, num_ranks(), block, own);
  transport_->all_gather(own, bytes, data, bytes);
}

// See Note [Sums in rank order].
WorkPtr HostGroup::all_reduce(at::Tensor tensor, ReduceOp op) {
  CollectiveCall call;
  call.operation = op == ReduceOp::kSum   ? Operation::kAllReduceSum
                   : op == ReduceOp::kMax ? Operation::kAllReduceMax
                                          : Operation::kAllReduceMin;
  call.tensor = tensor;
  return run(call, [&] { return tensor; }, [&](const at::Tensor&) {
    const std::int64_t count = tensor.numel();
    std::int64_t done = 0;
    if (num_bytes(tensor) * num_ranks() > limits_.small_bytes) {
      const std::int64_t most =
          std::max<std::int64_t>(1, limits_.chunk_bytes / element_bytes(tensor) / num_ranks());
      while (count - done >= num_ranks()) {
        const std::int64_t block = std::min(most, (count - done) / num_ranks());
        all_reduce_blocks(tensor, op, done, block);
        done += block * num_ranks();
      }
    }
    if (count > done) all_reduce_small(tensor, op, done, count - done);
    tensor.unsafeGetTensorImpl()->bump_version();
  });
}

WorkPtr HostGroup::all_gather(at::Tensor rows) {
  CollectiveCall call;
  call.operation = Operation::kAllGather;
  call.tensor = rows;
  const auto make_result = [&] { return empty_rows(rows, rows.size(0) * num_ranks()); };
  return run(call, make_result, [&](const at::Tensor& result) {
    const std::int64_t bytes = num_bytes(rows);
    if (bytes > 0) transport_->all_gather(bytes_of(rows), bytes, bytes_of(result), bytes);
  });
}

void HostGroup::sum_blocks(const at::Tensor& rows, const at::Tensor& result) {
  const std::int64_t width = element_bytes(rows);
  const std::int64_t count = result.numel();
  const std::int64_t most = std::max<std::int64_t>(1, limits_.chunk_bytes / width / num_ranks());
  for (std::int64_t begin = 0; begin < count; begin += most) {
    const std::int64_t n = std::min(most, count - begin);
    std::byte* pieces = scratch(n * width * num_ranks());
    transport_->all_to_all(bytes_of(rows) + begin * width, n * width, count * width, pieces);
    reduce_in_rank_order(rows.scalar_type(), ReduceOp::kSum, pieces, n * width, num_ranks(), n,
                         bytes_of(result) + begin * width);
  }
}

WorkPtr HostGroup::reduce_scatter(at::Tensor rows) {
  CollectiveCall call;
  call.operation = Operation::kReduceScatter;
  call.tensor = rows;
  return run(call, [&] { return empty_rows(rows, rows.size(0) / num_ranks()); },
             [&](const at::Tensor& result) { sum_blocks(rows, result); });
}

WorkPtr HostGroup::broadcast(at::Tensor tensor, int root) {
  CollectiveCall call;
  call.operation = Operation::kBroadcast;
  call.tensor = tensor;
  call.first = root;
  return run(call, [&] { return tensor; }, [&](const at::Tensor&) {
    if (tensor.numel() > 0) transport_->broadcast(bytes_of(tensor), num_bytes(tensor), root);
    if (rank() != root) tensor.unsafeGetTensorImpl()->bump_version();
  });
}

WorkPtr HostGroup::send_receive(at::Tensor out, int to, int from) {
  CollectiveCall call;
  call.operation = Operation::kSendReceive;
  call.tensor = out;
  call.first = to;
  call.second = from;
  return run(call, [&] { return at::empty(out.sizes(), out.options()); },
             [&](const at::Tensor& in) {
               if (out.numel() > 0)
                 transport_->send_receive(bytes_of(out), to, bytes_of(in), from, num_bytes(out));
             });
}

void HostGroup::barrier() {
  static_cast<void>(run(CollectiveCall{}, [] { return at::Tensor(); },
                        [](const at::Tensor&) {}));  // agreeing on it is the barrier
}

std::unique_ptr<ProcessGroup> HostGroup::split(int color, int key) {
  CollectiveCall call;
  call.operation = Operation::kSplit;
  call.first = color;
  call.second = key;
  std::unique_ptr<Transport> part;
  static_cast<void>(run(call, [] { return at::Tensor(); },
                        [&](const at::Tensor&) { part = transport_->split(color, key); }));
  if (part == nullptr) return make_self_group();  // a group of one splits into itself
  auto group = std::make_unique<HostGroup>(std::move(part), state_->record, limits_);
  if (device_ != nullptr) group->device_ = device_->split();
  return group;
}

void HostGroup::add_device(std::unique_ptr<DeviceTransport> device) {
  if (num_ranks() > 1) device->connect(*transport_);
  device_ = std::move(device);
}

void HostGroup::set_timeout(double seconds) {
  transport_->set_timeout(seconds);
  if (device_ != nullptr) device_->set_timeout(seconds);
}

HostGroup& host_group(ProcessGroup& group) {
  auto* host = dynamic_cast<HostGroup*>(&group);
  TRIPHASE_CHECK(InternalError, host != nullptr, "a ", group.backend(), " group is no host group");
  return *host;
}

}  // namespace

std::unique_ptr<ProcessGroup> make_host_group(std::unique_ptr<Transport> transport,
                                              std::shared_ptr<RankRecord> record,
                                              HostGroupLimits limits) {
  if (record == nullptr) record = std::make_shared<RankRecord>();
  return std::make_unique<HostGroup>(std::move(transport), std::move(record), limits);
}

void add_device(ProcessGroup& group, std::unique_ptr<DeviceTransport> device) {
  host_group(group).add_device(std::move(device));
}

void set_limits(ProcessGroup& group, HostGroupLimits limits) {
  host_group(group).set_limits(limits);
}
void set_timeout(ProcessGroup& group, double seconds) { host_group(group).set_timeout(seconds); }

const RankRecord& rank_record(ProcessGroup& group) { return host_group(group).record(); }

bool is_broken(const ProcessGroup& group) {
  const auto* host = dynamic_cast<const HostGroup*>(&group);
  return host != nullptr && host->is_broken();
}

bool has_device(const ProcessGroup& group) {
  const auto* host = dynamic_cast<const HostGroup*>(&group);
  return host != nullptr && host->has_device();
}

bool allows_threads(const ProcessGroup& group) {
  const auto* host = dynamic_cast<const HostGroup*>(&group);
  return host == nullptr || host->allows_threads();
}

}  // namespace triphase::dist
