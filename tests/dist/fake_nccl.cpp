// SPDX-License-Identifier: Apache-2.0
#include "tests/dist/fake_nccl.hpp"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace triphase::test {
namespace {

using dist::CudaRuntime;
using dist::NcclLibrary;

constexpr int kInvalidArgument = 4;
constexpr int kInvalidUsage = 5;
constexpr int kCudaNoDevice = 100;

enum class Kind { kAllReduce, kAllGather, kReduceScatter, kBroadcast, kSendReceive };

/// What one rank brings to a collective.
struct Part {
  Kind kind = Kind::kAllReduce;
  const std::byte* in = nullptr;
  std::byte* out = nullptr;
  std::size_t count = 0;
  int type = 0;
  int op = 0;
  int root = 0;  ///< or receiver
  int from = 0;
};

struct Collective {
  std::vector<Part> parts;
  int num_come = 0;
  bool is_done = false;
};

struct Clique {
  int num_ranks = 0;
  int num_joined = 0;
  bool is_dead = false;
  std::map<int, std::shared_ptr<Collective>> collectives;
};

struct Communicator {
  std::shared_ptr<Clique> clique;
  int rank = 0;
  int num_called = 0;
  int polls_left = 0;
  int asynchronous_result = NcclLibrary::kSuccess;
  bool is_ready = false;
  bool is_finalized = false;
  bool is_gone = false;  ///< destroyed or aborted
};

/// What was last put on a stream.
struct Mark {
  std::shared_ptr<Collective> collective;
  const Communicator* communicator = nullptr;
  int number = -1;
  [[nodiscard]] bool is_over() const {
    return collective == nullptr || collective->is_done || communicator->is_gone;
  }
};

struct Stream {
  Mark last;
  bool is_ordered = false;  ///< behind what the caller computed
};

struct Event {
  Mark mark;
  bool is_of_caller = false;  ///< recorded on the caller's stream
};

std::size_t width_of(int type) {
  if (type == NcclLibrary::kUint8) return 1;
  return type == NcclLibrary::kInt32 || type == NcclLibrary::kFloat32 ? 4 : 8;
}

/// As NCCL's kernels do it: a maximum drops a not-a-number.
template <class T>
T reduce_two(T a, T b, int op) {
  if (op == NcclLibrary::kSum) return static_cast<T>(a + b);
  if constexpr (std::is_floating_point_v<T>)
    return op == NcclLibrary::kMax ? std::fmax(a, b) : std::fmin(a, b);
  return op == NcclLibrary::kMax ? std::max(a, b) : std::min(a, b);
}

template <class T>
void reduce_as(const std::vector<Part>& parts, std::size_t count, std::vector<std::byte>& result) {
  for (std::size_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, parts[0].in + i * sizeof(T), sizeof(T));
    for (std::size_t r = 1; r < parts.size(); ++r) {
      T other;
      std::memcpy(&other, parts[r].in + i * sizeof(T), sizeof(T));
      value = reduce_two(value, other, parts[0].op);
    }
    std::memcpy(result.data() + i * sizeof(T), &value, sizeof(T));
  }
}

std::vector<std::byte> reduce(const std::vector<Part>& parts, std::size_t count) {
  std::vector<std::byte> result(count * width_of(parts[0].type));
  switch (parts[0].type) {
    case NcclLibrary::kUint8: reduce_as<std::uint8_t>(parts, count, result); break;
    case NcclLibrary::kInt32: reduce_as<std::int32_t>(parts, count, result); break;
    case NcclLibrary::kInt64: reduce_as<std::int64_t>(parts, count, result); break;
    case NcclLibrary::kFloat32: reduce_as<float>(parts, count, result); break;
    default: reduce_as<double>(parts, count, result);
  }
  return result;
}

/// Results first, as a rank's input may be another's output.
/// @return whether each sender is heard by the one it sends to
bool carry_out(Collective& collective) {
  std::vector<Part>& parts = collective.parts;
  const std::size_t n = parts.size();
  for (std::size_t r = 0; r < n && parts[0].kind == Kind::kSendReceive; ++r)
    if (parts[static_cast<std::size_t>(parts[r].root)].from != static_cast<int>(r)) return false;
  const std::size_t bytes = parts[0].count * width_of(parts[0].type);
  std::vector<std::vector<std::byte>> results(n, std::vector<std::byte>(bytes));
  if (parts[0].kind == Kind::kAllReduce) {
    results.assign(n, reduce(parts, parts[0].count));
  } else if (parts[0].kind == Kind::kReduceScatter) {
    const std::vector<std::byte> sum = reduce(parts, parts[0].count * n);
    for (std::size_t r = 0; r < n; ++r)
      std::copy_n(sum.data() + r * bytes, bytes, results[r].data());
  } else if (parts[0].kind == Kind::kAllGather) {
    std::vector<std::byte> all;
    for (const Part& part : parts) all.insert(all.end(), part.in, part.in + bytes);
    results.assign(n, all);
  } else {
    for (std::size_t r = 0; r < n; ++r) {
      const auto source =
          static_cast<std::size_t>(parts[0].kind == Kind::kBroadcast ? parts[0].root : parts[r].from);
      std::copy_n(parts[source].in, bytes, results[r].data());
    }
  }
  for (std::size_t r = 0; r < n; ++r)
    std::memcpy(parts[r].out, results[r].data(), results[r].size());
  collective.is_done = true;
  return true;
}

}  // namespace

struct FakeNccl::State {
  FakeBehaviour behaviour;
  FakeCounts counts;
  std::mutex mutex;
  std::condition_variable changed;
  bool is_over = false;
  std::string misuse;
  std::map<std::string, std::shared_ptr<Clique>> cliques;
  std::vector<std::unique_ptr<Communicator>> communicators;  // as long as the fake: to see misuse

  int forbid(const std::string& what) {
    if (counts.misuses++ == 0) misuse = what;
    return kInvalidUsage;
  }
  [[nodiscard]] bool is_faulty(int rank) const {
    return behaviour.faulty_rank < 0 || behaviour.faulty_rank == rank;
  }
};

namespace {

std::shared_ptr<FakeNccl::State> in_use;
thread_local std::vector<Part> grouped;  // between group_start and group_end
thread_local bool is_grouping = false;
thread_local Communicator* grouped_communicator = nullptr;
thread_local Stream* grouped_stream = nullptr;
thread_local int own_gpu = -1;
std::atomic<int> num_own_gpus = 0;

int begin(const Part& part, void* handle, void* stream_handle) {
  FakeNccl::State& fake = *in_use;
  const std::lock_guard lock(fake.mutex);
  auto* communicator = static_cast<Communicator*>(handle);
  auto* stream = static_cast<Stream*>(stream_handle);
  if (communicator == nullptr || communicator->is_gone)
    return fake.forbid("a collective on a communicator that is gone");
  if (!communicator->is_ready || communicator->polls_left > 0)
    return fake.forbid("a collective while the communicator is in progress");
  if (stream == nullptr || !stream->is_ordered)
    return fake.forbid("a collective that does not wait for what the caller computed");
  const bool is_reduction = part.kind == Kind::kAllReduce || part.kind == Kind::kReduceScatter;
  const bool is_known = part.type == NcclLibrary::kUint8 || part.type == NcclLibrary::kInt32 ||
                        part.type == NcclLibrary::kInt64 || part.type == NcclLibrary::kFloat32 ||
                        part.type == NcclLibrary::kFloat64;
  if (!is_known || (!is_reduction && part.type != NcclLibrary::kUint8)) return kInvalidArgument;
  if (part.count == 0) return fake.forbid("a collective of nothing");
  ++fake.counts.collectives;
  const int number = communicator->num_called++;
  Clique& clique = *communicator->clique;
  auto& collective = clique.collectives[number];
  if (collective == nullptr) {
    collective = std::make_shared<Collective>();
    collective->parts.resize(static_cast<std::size_t>(clique.num_ranks));
  }
  const Part& first = collective->parts[0];
  if (communicator->rank > 0 && first.in != nullptr &&
      (first.kind != part.kind || first.count != part.count || first.type != part.type ||
       first.op != part.op))
    return fake.forbid("ranks that disagree");
  collective->parts[static_cast<std::size_t>(communicator->rank)] = part;
  stream->is_ordered = false;
  stream->last = {collective, communicator, number};
  const bool has_error = number == fake.behaviour.error_at;
  if (has_error && fake.is_faulty(communicator->rank))
    communicator->asynchronous_result = fake.behaviour.error_result;
  const bool is_complete = ++collective->num_come == clique.num_ranks;
  const bool is_wanted = !has_error && number != fake.behaviour.hang_at && !clique.is_dead;
  if (is_complete && is_wanted && !carry_out(*collective)) return fake.forbid("nobody listens");
  communicator->polls_left = fake.behaviour.call_polls;
  return communicator->polls_left > 0 ? NcclLibrary::kInProgress : NcclLibrary::kSuccess;
}

int get_version(int* version) {
  *version = in_use->behaviour.version;
  return NcclLibrary::kSuccess;
}

const char* nccl_error_string(int result) {
  if (result == 6) return "remote process exited or there was a network error";
  return result == kInvalidUsage ? "invalid usage" : "unhandled system error";
}

const char* get_last_error(void* /*communicator*/) { return "the fake's last words"; }

int get_unique_id(NcclLibrary::UniqueId* id) {
  FakeNccl::State& fake = *in_use;
  id->bytes.fill('x');
  std::snprintf(id->bytes.data() + 64, 64, "clique %d", fake.counts.unique_ids++);
  return fake.behaviour.unique_id_result;
}

int comm_init_rank_config(void** handle, int num_ranks, NcclLibrary::UniqueId id, int rank,
                          NcclLibrary::Config* config) {
  FakeNccl::State& fake = *in_use;
  const std::lock_guard lock(fake.mutex);
  ++fake.counts.inits;
  if (config->blocking != 0 || config->magic != 0xcafebeef || config->size != sizeof *config)
    return fake.forbid("a communicator that blocks");
  if (fake.behaviour.init_result != 0 && fake.is_faulty(rank)) return fake.behaviour.init_result;
  auto& clique = fake.cliques[{id.bytes.begin(), id.bytes.end()}];
  if (clique == nullptr) clique = std::make_shared<Clique>();
  clique->num_ranks = num_ranks;
  ++clique->num_joined;
  auto communicator = std::make_unique<Communicator>();
  communicator->clique = clique;
  communicator->rank = rank;
  communicator->polls_left = fake.behaviour.init_polls;
  *handle = communicator.get();
  fake.communicators.push_back(std::move(communicator));
  return NcclLibrary::kInProgress;
}

int comm_get_async_error(void* handle, int* result) {
  FakeNccl::State& fake = *in_use;
  const std::lock_guard lock(fake.mutex);
  auto* communicator = static_cast<Communicator*>(handle);
  if (communicator == nullptr || communicator->is_gone)
    return fake.forbid("a question about a communicator that is gone");
  *result = communicator->asynchronous_result;
  if (*result != NcclLibrary::kSuccess) return NcclLibrary::kSuccess;
  const Clique& clique = *communicator->clique;
  *result = NcclLibrary::kInProgress;
  if (fake.behaviour.never_connects || clique.num_joined < clique.num_ranks)
    return NcclLibrary::kSuccess;
  if (communicator->polls_left > 0 && communicator->polls_left-- > 0) return NcclLibrary::kSuccess;
  communicator->is_ready = true;
  *result = NcclLibrary::kSuccess;
  return NcclLibrary::kSuccess;
}

int comm_finalize(void* handle) {
  FakeNccl::State& fake = *in_use;
  const std::lock_guard lock(fake.mutex);
  auto* communicator = static_cast<Communicator*>(handle);
  ++fake.counts.finalizes;
  if (communicator->is_gone || communicator->is_finalized) return fake.forbid("a second end");
  communicator->is_finalized = true;
  communicator->polls_left = fake.behaviour.call_polls;
  return NcclLibrary::kInProgress;
}

int comm_destroy(void* handle) {
  FakeNccl::State& fake = *in_use;
  const std::lock_guard lock(fake.mutex);
  auto* communicator = static_cast<Communicator*>(handle);
  ++fake.counts.destroys;
  if (!communicator->is_finalized || communicator->polls_left > 0 || communicator->is_gone)
    return fake.forbid("destroyed before it was at its end");
  communicator->is_gone = true;
  return NcclLibrary::kSuccess;
}

int comm_abort(void* handle) {
  const std::shared_ptr<FakeNccl::State> fake = in_use;
  std::unique_lock lock(fake->mutex);
  auto* communicator = static_cast<Communicator*>(handle);
  ++fake->counts.aborts;
  if (communicator->is_gone) return fake->forbid("a second abort");
  if (fake->behaviour.abort_hangs) {
    fake->changed.wait(lock, [&] { return fake->is_over; });
    return NcclLibrary::kSuccess;
  }
  communicator->is_gone = true;
  communicator->clique->is_dead = true;  // the others wait for ever
  return NcclLibrary::kSuccess;
}

Part part_of(Kind kind, const void* in, void* out, std::size_t count, int type, int op = 0,
             int root = 0) {
  return {kind, static_cast<const std::byte*>(in), static_cast<std::byte*>(out), count, type, op,
          root};
}

int all_reduce(const void* in, void* out, std::size_t count, int type, int op, void* comm,
               void* stream) {
  return begin(part_of(Kind::kAllReduce, in, out, count, type, op), comm, stream);
}
int all_gather(const void* in, void* out, std::size_t count, int type, void* comm, void* stream) {
  return begin(part_of(Kind::kAllGather, in, out, count, type), comm, stream);
}
int reduce_scatter(const void* in, void* out, std::size_t count, int type, int op, void* comm,
                   void* stream) {
  return begin(part_of(Kind::kReduceScatter, in, out, count, type, op), comm, stream);
}
int broadcast(const void* in, void* out, std::size_t count, int type, int root, void* comm,
              void* stream) {
  return begin(part_of(Kind::kBroadcast, in, out, count, type, 0, root), comm, stream);
}

int group_start() {
  is_grouping = true;
  grouped.assign(2, {});
  return NcclLibrary::kSuccess;
}
int send(const void* in, std::size_t count, int type, int to, void* comm, void* stream) {
  if (!is_grouping) return in_use->forbid("a send outside of a group");
  grouped_communicator = static_cast<Communicator*>(comm);
  grouped_stream = static_cast<Stream*>(stream);
  grouped[0] = part_of(Kind::kSendReceive, in, nullptr, count, type, 0, to);
  return NcclLibrary::kSuccess;
}
int receive(void* out, std::size_t count, int type, int from, void* /*comm*/, void* /*stream*/) {
  grouped[1] = part_of(Kind::kSendReceive, nullptr, out, count, type, 0, from);
  return NcclLibrary::kSuccess;
}
int group_end() {
  if (!is_grouping) return in_use->forbid("a group that was not opened");
  is_grouping = false;
  Part both = grouped[0];
  both.out = grouped[1].out;
  both.from = grouped[1].root;
  if (both.in == nullptr || both.out == nullptr) return in_use->forbid("half an exchange");
  return begin(both, grouped_communicator, grouped_stream);
}

const char* cuda_error_string(int code) {
  if (code == kCudaNoDevice) return "no CUDA-capable device is detected";
  return code == 700 ? "an illegal memory access was encountered" : "unknown error";
}
int runtime_get_version(int* version) {
  *version = 13000;
  return CudaRuntime::kSuccess;
}
int get_device_count(int* count) {
  *count = in_use->behaviour.has_own_gpus ? 1 : in_use->behaviour.num_gpus;
  return *count > 0 ? CudaRuntime::kSuccess : kCudaNoDevice;
}
int device_get_pci_bus_id(char* text, int length, int device) {
  if (own_gpu < 0) own_gpu = num_own_gpus++;
  const int number = in_use->behaviour.has_own_gpus ? own_gpu : device;
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", static_cast<unsigned>(number));
  return CudaRuntime::kSuccess;
}
int set_device(int device) { return device < in_use->behaviour.num_gpus ? CudaRuntime::kSuccess : 101; }
int stream_create_with_flags(void** stream, unsigned flags) {
  if (flags != CudaRuntime::kStreamNonBlocking) in_use->forbid("a stream that waits for stream 0");
  *stream = new Stream;
  return CudaRuntime::kSuccess;
}
int stream_destroy(void* stream) {
  delete static_cast<Stream*>(stream);
  return CudaRuntime::kSuccess;
}
int stream_wait_event(void* stream, void* event, unsigned /*flags*/) {
  const std::lock_guard lock(in_use->mutex);
  if (static_cast<Event*>(event)->is_of_caller) static_cast<Stream*>(stream)->is_ordered = true;
  return CudaRuntime::kSuccess;
}
int event_create_with_flags(void** event, unsigned /*flags*/) {
  ++in_use->counts.events;
  *event = new Event;
  return CudaRuntime::kSuccess;
}
int event_destroy(void* event) {
  --in_use->counts.events;
  delete static_cast<Event*>(event);
  return CudaRuntime::kSuccess;
}
int event_record(void* event, void* stream) {
  const std::lock_guard lock(in_use->mutex);
  auto* recorded = static_cast<Event*>(event);
  recorded->is_of_caller = stream == nullptr;
  recorded->mark = stream == nullptr ? Mark{} : static_cast<Stream*>(stream)->last;
  return CudaRuntime::kSuccess;
}
int event_query(void* event) {
  const std::lock_guard lock(in_use->mutex);
  const Mark& mark = static_cast<Event*>(event)->mark;
  if (mark.number >= 0 && mark.number == in_use->behaviour.cuda_error_at) return 700;
  return mark.is_over() ? CudaRuntime::kSuccess : CudaRuntime::kNotReady;
}
void* current_stream(int /*device*/) { return nullptr; }

}  // namespace

FakeNccl::FakeNccl(FakeBehaviour behaviour) : state_(std::make_shared<State>()) {
  state_->behaviour = behaviour;
  in_use = state_;
}

FakeNccl::~FakeNccl() {
  const std::lock_guard lock(state_->mutex);
  state_->is_over = true;
  state_->changed.notify_all();
}

dist::CudaRuntime FakeNccl::cuda() const {
  CudaRuntime cuda;
  cuda.get_error_string = cuda_error_string;
  cuda.runtime_get_version = runtime_get_version;
  cuda.get_device_count = get_device_count;
  cuda.device_get_pci_bus_id = device_get_pci_bus_id;
  cuda.set_device = set_device;
  cuda.stream_create_with_flags = stream_create_with_flags;
  cuda.stream_destroy = stream_destroy;
  cuda.stream_wait_event = stream_wait_event;
  cuda.event_create_with_flags = event_create_with_flags;
  cuda.event_destroy = event_destroy;
  cuda.event_record = event_record;
  cuda.event_query = event_query;
  cuda.current_stream = current_stream;
  cuda.file = "the fake's libcudart";
  return cuda;
}

dist::NcclLibrary FakeNccl::nccl() const {
  NcclLibrary nccl;
  nccl.get_version = get_version;
  nccl.get_error_string = nccl_error_string;
  nccl.get_last_error = get_last_error;
  nccl.get_unique_id = get_unique_id;
  nccl.comm_init_rank_config = comm_init_rank_config;
  nccl.comm_get_async_error = comm_get_async_error;
  nccl.comm_finalize = comm_finalize;
  nccl.comm_destroy = comm_destroy;
  nccl.comm_abort = comm_abort;
  nccl.all_reduce = all_reduce;
  nccl.all_gather = all_gather;
  nccl.reduce_scatter = reduce_scatter;
  nccl.broadcast = broadcast;
  nccl.send = send;
  nccl.receive = receive;
  nccl.group_start = group_start;
  nccl.group_end = group_end;
  nccl.file = "the fake's libnccl";
  nccl.version = state_->behaviour.version;
  return nccl;
}

dist::NcclSetup FakeNccl::setup(double timeout_seconds) const {
  return {.libraries = std::make_shared<const dist::GpuLibraries>(dist::GpuLibraries{cuda(), nccl()}),
          .gpu = 0,
          .device = at::Device(at::kCPU),
          .timeout_seconds = std::make_shared<std::atomic<double>>(timeout_seconds)};
}

const FakeCounts& FakeNccl::counts() const { return state_->counts; }

std::string FakeNccl::misuse() const {
  const std::lock_guard lock(state_->mutex);
  return state_->misuse;
}

}  // namespace triphase::test
