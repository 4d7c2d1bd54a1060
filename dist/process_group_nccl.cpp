// SPDX-License-Identifier: Apache-2.0
#include "dist/process_group_nccl.hpp"

#include "dist/device_transport.hpp"
#include "dist/host_group.hpp"
#include "dist/order_keys.hpp"
#include "dist/runtime.hpp"

#include <ATen/ops/empty.h>

#include <array>
#include <functional>
#include <utility>
#include <vector>

// Note [What NCCL is given]
// NCCL's maximum and minimum drop a not-a-number where another rank has a number, and its bfloat16
// sums are rounded at every addition (src/device/reduce_kernel.h of 2.28: fmaxf, __hadd). So maxima
// and minima go as integers of the same order (order_keys), and bfloat16 sums as float32, which is
// twice the bytes. What is only moved goes as bytes.

namespace triphase::dist {
namespace {

/// A collective on the stream of a connection.
class NcclFlight final : public DeviceFlight {
 public:
  /// @param tensors whose memory it uses
  NcclFlight(std::shared_ptr<NcclConnection> connection, std::string what,
             std::vector<at::Tensor> tensors)
      : connection_(std::move(connection)), what_(std::move(what)), tensors_(std::move(tensors)) {
    CUDA_TRY(connection_->cuda(),
             event_create_with_flags(&event_, CudaRuntime::kEventDisableTiming));
  }
  ~NcclFlight() override {
    if (event_ != nullptr) connection_->keep(event_, std::move(tensors_));
  }
  NcclFlight(const NcclFlight&) = delete;
  NcclFlight& operator=(const NcclFlight&) = delete;

  [[nodiscard]] bool is_done() override {
    return event_ == nullptr || connection_->broken() ||
           connection_->cuda().event_query(event_) != CudaRuntime::kNotReady ||
           connection_->has_asynchronous_error();
  }
  void wait() override {
    if (event_ == nullptr) return;
    guarded([&] { connection_->wait_for(event_, what_); });
    connection_->cuda().event_destroy(std::exchange(event_, nullptr));
    if (finish_) finish_();
    finish_ = nullptr;
    tensors_.clear();
  }
  /// Runs `enqueue` on the stream behind what the caller's tensors wait for.
  template <class Enqueue>
  void begin(Enqueue&& enqueue);
  /// What the host has to do with the result.
  void set_finish(std::function<void()> finish) { finish_ = std::move(finish); }

 private:
  /// A failure ends the connection, and the memory may still be written: it is never freed.
  template <class Action>
  void guarded(Action&& action) {
    if (connection_->broken()) throw CommError(*connection_->broken());
    try {
      action();
    } catch (const CommError& error) {
      connection_->abort(error);
      static_cast<void>(std::make_unique<std::vector<at::Tensor>>(std::move(tensors_)).release());
      event_ = nullptr;
      throw;
    }
  }

  std::shared_ptr<NcclConnection> connection_;  // the group may go first
  std::string what_;
  std::vector<at::Tensor> tensors_;
  std::function<void()> finish_;
  CudaRuntime::Event event_ = nullptr;  // null when it is over
};

template <class Enqueue>
void NcclFlight::begin(Enqueue&& enqueue) {
  const CudaRuntime& cuda = connection_->cuda();
  guarded([&] {
    CUDA_TRY(cuda, event_record(event_, cuda.current_stream(connection_->setup().gpu)));
    CUDA_TRY(cuda, stream_wait_event(connection_->stream(), event_, 0));
    connection_->settle(enqueue(), what_);
    CUDA_TRY(cuda, event_record(event_, connection_->stream()));
  });
}

int element_type(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble: return NcclLibrary::kFloat64;
    case at::kFloat: return NcclLibrary::kFloat32;
    case at::kLong: return NcclLibrary::kInt64;
    case at::kInt: return NcclLibrary::kInt32;
    case at::kByte: return NcclLibrary::kUint8;
    default: throw InternalError(str("NCCL is given no ", at::toString(tensor.scalar_type())));
  }
}

int reduction_of(Operation operation) {
  if (operation == Operation::kAllReduceMax) return NcclLibrary::kMax;
  return operation == Operation::kAllReduceMin ? NcclLibrary::kMin : NcclLibrary::kSum;
}

/// What a collective reads and writes, and what makes the result of it.
struct Exchange {
  at::Tensor in;
  at::Tensor out;
  std::function<void()> finish;
};

/// See Note [What NCCL is given].
Exchange prepare(const CollectiveCall& call, const at::Tensor& result) {
  const at::Tensor& tensor = call.tensor;
  const bool is_extremum = call.operation == Operation::kAllReduceMax ||
                           call.operation == Operation::kAllReduceMin;
  if (is_extremum && at::isFloatingType(tensor.scalar_type())) {
    const at::Tensor keys = order_keys(tensor, call.operation == Operation::kAllReduceMax);
    return {keys, keys,
            [keys, result] { result.copy_(from_order_keys(keys, result.scalar_type())); }};
  }
  const bool is_sum = call.operation == Operation::kAllReduceSum ||
                      call.operation == Operation::kReduceScatter;
  if (is_sum && tensor.scalar_type() == at::kBFloat16) {
    const at::Tensor in = tensor.to(at::kFloat);
    const at::Tensor out = call.operation == Operation::kAllReduceSum
                               ? in
                               : at::empty(result.sizes(), in.options());
    return {in, out, [out, result] { result.copy_(out); }};
  }
  return {tensor, result, nullptr};
}

/// @return NCCL's result
int enqueue(const CollectiveCall& call, const Exchange& exchange, const NcclConnection& connection) {
  const NcclLibrary& nccl = connection.nccl();
  const void* in = exchange.in.const_data_ptr();
  void* out = exchange.out.mutable_data_ptr();
  const std::size_t bytes_in = exchange.in.nbytes();
  const auto count_out = static_cast<std::size_t>(exchange.out.numel());
  NcclLibrary::Comm comm = connection.comm();
  CudaRuntime::Stream stream = connection.stream();
  constexpr int kBytes = NcclLibrary::kUint8;
  switch (call.operation) {
    case Operation::kAllReduceSum:
    case Operation::kAllReduceMax:
    case Operation::kAllReduceMin:
      return nccl.all_reduce(in, out, count_out, element_type(exchange.in),
                             reduction_of(call.operation), comm, stream);
    case Operation::kAllGather: return nccl.all_gather(in, out, bytes_in, kBytes, comm, stream);
    case Operation::kReduceScatter:
      return nccl.reduce_scatter(in, out, count_out, element_type(exchange.in), NcclLibrary::kSum,
                                 comm, stream);
    case Operation::kBroadcast:
      return nccl.broadcast(in, out, bytes_in, kBytes, call.first, comm, stream);
    case Operation::kSendReceive: {
      int result = nccl.group_start();
      if (result == NcclLibrary::kSuccess)
        result = nccl.send(in, bytes_in, kBytes, call.first, comm, stream);
      if (result == NcclLibrary::kSuccess)
        result = nccl.receive(out, bytes_in, kBytes, call.second, comm, stream);
      const int end = nccl.group_end();  // also after an error: it closes what was opened
      return result == NcclLibrary::kSuccess ? end : result;
    }
    case Operation::kBarrier:
    case Operation::kSplit:
    case Operation::kInvalid: break;
  }
  throw InternalError(str(operation_name(call.operation), " moves no tensor"));
}

class NcclTransport final : public DeviceTransport {
 public:
  explicit NcclTransport(NcclSetup setup) : setup_(std::move(setup)) {}

  [[nodiscard]] std::string backend() const override { return "nccl"; }
  [[nodiscard]] at::Device device() const override { return setup_.device; }
  void set_timeout(double seconds) override { setup_.timeout_seconds->store(seconds); }
  [[nodiscard]] bool is_broken() const override {
    return has_failed_ || (connection_ != nullptr && connection_->broken());
  }
  void connect(Transport& host) override {
    if (connection_ != nullptr) return;
    has_failed_ = true;
    connection_ = std::make_shared<NcclConnection>(setup_, host);
    has_failed_ = false;
  }
  std::unique_ptr<DeviceFlight> start(const CollectiveCall& call, const at::Tensor& result,
                                      Transport& host) override;
  std::unique_ptr<DeviceTransport> split() const override {
    return std::make_unique<NcclTransport>(setup_);
  }

 private:
  NcclSetup setup_;
  std::shared_ptr<NcclConnection> connection_;  // with the collectives on their way
  bool has_failed_ = false;
};

std::unique_ptr<DeviceFlight> NcclTransport::start(const CollectiveCall& call,
                                                   const at::Tensor& result, Transport& host) {
  connect(host);
  try {
    CUDA_TRY(connection_->cuda(), set_device(setup_.gpu));  // of this thread
    Exchange exchange = prepare(call, result);
    auto flight = std::make_unique<NcclFlight>(
        connection_,
        str(call.describe(), ", ", call.tensor.nbytes(), " bytes, on rank ", connection_->rank(),
            " of ", connection_->num_ranks()),
        std::vector<at::Tensor>{call.tensor, result, exchange.in, exchange.out});
    flight->begin([&] { return enqueue(call, exchange, *connection_); });
    flight->set_finish(std::move(exchange.finish));
    const bool is_root = call.operation == Operation::kBroadcast && call.first == connection_->rank();
    if (result.is_same(call.tensor) && !is_root) result.unsafeGetTensorImpl()->bump_version();
    return flight;
  } catch (const CommError& error) {
    connection_->abort(error);
    throw;
  }
}

/// A rank's GPU as the others of its host see it, or why it has none.
std::string gpu_address(const CudaRuntime& cuda, int local_rank, int& gpu) {
  std::string problem;
  const int count = count_gpus(cuda, problem);
  if (count == 0) return "no GPU: " + problem;
  gpu = local_rank % count;
  std::array<char, 64> address{};
  const int code = cuda.device_get_pci_bus_id(address.data(), address.size(), gpu);
  if (code != CudaRuntime::kSuccess) return str("no GPU: ", cuda.get_error_string(code));
  return address.data();
}

bool allows_shared_gpus(const Environment& environment) {
  return environment("NCCL_MULTI_RANK_GPU_ENABLE") == "1" || environment("NCCL_HOSTID");
}

}  // namespace

int choose_gpu(ProcessGroup& node_group, const CudaRuntime& cuda, const Environment& environment) {
  int gpu = 0;
  const std::vector<std::string> all =
      gather_texts(node_group, {gpu_address(cuda, node_group.rank(), gpu)});
  for (std::size_t r = 0; r < all.size(); ++r) {
    TRIPHASE_CHECK(CommError, !all[r].starts_with("no GPU"), "local rank ", r, " has ", all[r]);
    for (std::size_t other = 0; other < r && !allows_shared_gpus(environment); ++other)
      TRIPHASE_CHECK(CommError, all[r] != all[other], all.size(), " ranks on this host and fewer GPUs",
                     ": local ranks ", other, " and ", r, " would share GPU ", all[r],
                     ", which NCCL refuses. Start one rank for each GPU, or, to try things out, set "
                     "NCCL_MULTI_RANK_GPU_ENABLE=1 (NCCL 2.30 and later) or an NCCL_HOSTID of each "
                     "rank's own.");
  }
  return gpu;
}

std::unique_ptr<ProcessGroup> make_nccl_group(std::unique_ptr<ProcessGroup> group,
                                              NcclSetup setup) {
  add_device(*group, std::make_unique<NcclTransport>(std::move(setup)));
  return group;
}

}  // namespace triphase::dist
