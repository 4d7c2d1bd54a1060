// SPDX-License-Identifier: Apache-2.0
// Our declarations against the headers of the libraries that LibTorch carries, where these are there.
// What is wrong does not compile.
#include "dist/cuda_runtime.hpp"
#include "dist/nccl_library.hpp"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <type_traits>

namespace triphase::test {
namespace {

using Cuda = dist::CudaRuntime;
using Nccl = dist::NcclLibrary;

static_assert(sizeof(Nccl::UniqueId) == sizeof(ncclUniqueId));

#define TRIPHASE_SAME_PLACE(ours, theirs) \
  static_assert(offsetof(Nccl::Config, ours) == offsetof(ncclConfig_t, theirs), #theirs)
TRIPHASE_SAME_PLACE(size, size);
TRIPHASE_SAME_PLACE(magic, magic);
TRIPHASE_SAME_PLACE(version, version);
TRIPHASE_SAME_PLACE(blocking, blocking);
TRIPHASE_SAME_PLACE(cga_cluster_size, cgaClusterSize);
TRIPHASE_SAME_PLACE(min_ctas, minCTAs);
TRIPHASE_SAME_PLACE(max_ctas, maxCTAs);
TRIPHASE_SAME_PLACE(net_name, netName);
TRIPHASE_SAME_PLACE(split_share, splitShare);

static_assert(Nccl::kUndefined == NCCL_CONFIG_UNDEF_INT && Nccl::kSuccess == ncclSuccess &&
              Nccl::kInProgress == ncclInProgress);
static_assert(Nccl::kUint8 == ncclUint8 && Nccl::kInt32 == ncclInt32 && Nccl::kInt64 == ncclInt64 &&
              Nccl::kFloat32 == ncclFloat32 && Nccl::kFloat64 == ncclFloat64);
static_assert(Nccl::kSum == ncclSum && Nccl::kMax == ncclMax && Nccl::kMin == ncclMin);
static_assert(Cuda::kSuccess == cudaSuccess && Cuda::kNotReady == cudaErrorNotReady &&
              Cuda::kStreamNonBlocking == cudaStreamNonBlocking &&
              Cuda::kEventDisableTiming == cudaEventDisableTiming);

/// How a value is handed over: handles are pointers, enumerators ints.
enum class Passing { kPointer, kInt, kSize, kId, kOther };
template <class T>
constexpr Passing passing() {
  if (std::is_pointer_v<T>) return Passing::kPointer;
  if (std::is_enum_v<T> || std::is_same_v<T, int> || std::is_same_v<T, unsigned>)
    return sizeof(T) == sizeof(int) ? Passing::kInt : Passing::kOther;
  if (std::is_same_v<T, std::size_t>) return Passing::kSize;
  return sizeof(T) == sizeof(ncclUniqueId) ? Passing::kId : Passing::kOther;
}

template <class Ours, class Theirs>
struct IsSameCall : std::false_type {};
template <class R, class... A, class S, class... B>
  requires(sizeof...(A) == sizeof...(B))
struct IsSameCall<R (*)(A...), S (*)(B...)>
    : std::bool_constant<passing<R>() == passing<S>() && ((passing<A>() == passing<B>()) && ...)> {};

#define TRIPHASE_SAME_CALL(ours, ...) \
  static_assert(IsSameCall<decltype(ours), __VA_ARGS__>::value, #__VA_ARGS__)
TRIPHASE_SAME_CALL(Nccl::get_version, decltype(&ncclGetVersion));
TRIPHASE_SAME_CALL(Nccl::get_error_string, decltype(&ncclGetErrorString));
TRIPHASE_SAME_CALL(Nccl::get_last_error, decltype(&ncclGetLastError));
TRIPHASE_SAME_CALL(Nccl::get_unique_id, decltype(&ncclGetUniqueId));
TRIPHASE_SAME_CALL(Nccl::comm_init_rank_config, decltype(&ncclCommInitRankConfig));
TRIPHASE_SAME_CALL(Nccl::comm_get_async_error, decltype(&ncclCommGetAsyncError));
TRIPHASE_SAME_CALL(Nccl::comm_finalize, decltype(&ncclCommFinalize));
TRIPHASE_SAME_CALL(Nccl::comm_destroy, decltype(&ncclCommDestroy));
TRIPHASE_SAME_CALL(Nccl::comm_abort, decltype(&ncclCommAbort));
TRIPHASE_SAME_CALL(Nccl::all_reduce, decltype(&ncclAllReduce));
TRIPHASE_SAME_CALL(Nccl::all_gather, decltype(&ncclAllGather));
TRIPHASE_SAME_CALL(Nccl::reduce_scatter, decltype(&ncclReduceScatter));
TRIPHASE_SAME_CALL(Nccl::broadcast, decltype(&ncclBroadcast));
TRIPHASE_SAME_CALL(Nccl::send, decltype(&ncclSend));
TRIPHASE_SAME_CALL(Nccl::receive, decltype(&ncclRecv));
TRIPHASE_SAME_CALL(Nccl::group_start, decltype(&ncclGroupStart));
TRIPHASE_SAME_CALL(Nccl::group_end, decltype(&ncclGroupEnd));
// Those of CUDA that C++ overloads are written out.
TRIPHASE_SAME_CALL(Cuda::get_error_string, decltype(&cudaGetErrorString));
TRIPHASE_SAME_CALL(Cuda::runtime_get_version, decltype(&cudaRuntimeGetVersion));
TRIPHASE_SAME_CALL(Cuda::get_device_count, decltype(&cudaGetDeviceCount));
TRIPHASE_SAME_CALL(Cuda::device_get_pci_bus_id, decltype(&cudaDeviceGetPCIBusId));
TRIPHASE_SAME_CALL(Cuda::set_device, decltype(&cudaSetDevice));
TRIPHASE_SAME_CALL(Cuda::stream_create_with_flags, cudaError_t (*)(cudaStream_t*, unsigned));
TRIPHASE_SAME_CALL(Cuda::stream_destroy, decltype(&cudaStreamDestroy));
TRIPHASE_SAME_CALL(Cuda::stream_wait_event, cudaError_t (*)(cudaStream_t, cudaEvent_t, unsigned));
TRIPHASE_SAME_CALL(Cuda::event_create_with_flags, cudaError_t (*)(cudaEvent_t*, unsigned));
TRIPHASE_SAME_CALL(Cuda::event_destroy, decltype(&cudaEventDestroy));
TRIPHASE_SAME_CALL(Cuda::event_record, cudaError_t (*)(cudaEvent_t, cudaStream_t));
TRIPHASE_SAME_CALL(Cuda::event_query, decltype(&cudaEventQuery));

TEST(NcclAbi, OurDeclarationsAreThoseOfTheHeaders) {
  EXPECT_LE(Nccl::kDeclaredVersion, NCCL_VERSION_CODE);
}

}  // namespace
}  // namespace triphase::test
