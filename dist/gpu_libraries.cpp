// SPDX-License-Identifier: Apache-2.0
#include "dist/gpu_libraries.hpp"

#include "dist/dynamic_library.hpp"

#include <array>
#include <utility>

namespace triphase::dist {
namespace {

constexpr const char* kElse = " Use distributed.backend = \"auto\" or \"mpi\", which need none.";

template <class Library>
std::string describe_found(std::optional<Library> (*load)()) {
  try {
    return describe(load());
  } catch (const CommError& error) {
    return error.message();
  }
}

}  // namespace

std::shared_ptr<const GpuLibraries> require_gpu_libraries(std::optional<CudaRuntime> cuda,
                                                          std::optional<NcclLibrary> nccl) {
  TRIPHASE_CHECK(CommError, cuda.has_value(),
                 "distributed.backend is 'nccl', and CUDA's runtime (libcudart.so) is neither beside "
                 "LibTorch nor where the system looks.",
                 kElse);
  std::string problem;
  TRIPHASE_CHECK(CommError, count_gpus(*cuda, problem) > 0,
                 "distributed.backend is 'nccl', and this process sees no GPU: CUDA says '", problem,
                 "'.", kElse);
  TRIPHASE_CHECK(CommError, nccl.has_value(),
                 "distributed.backend is 'nccl', and its library (libnccl.so.2) is neither beside "
                 "LibTorch nor where the system looks.",
                 kElse);
  check_version(*nccl);
  return std::make_shared<const GpuLibraries>(GpuLibraries{*std::move(cuda), *std::move(nccl)});
}

std::string describe(const std::optional<CudaRuntime>& cuda) {
  if (!cuda) return "not found: everything is computed on the CPU";
  std::string problem;
  const int count = count_gpus(*cuda, problem);
  return str(version_text(*cuda), ", ", cuda->file, count > 0 ? str(", GPUs: ", count) : "",
             count > 0 ? "" : str(", no GPU: ", problem));
}

std::string describe(const std::optional<NcclLibrary>& nccl) {
  if (!nccl) return "not found: distributed.backend = \"nccl\" is refused, \"mpi\" does without";
  return str(nccl_version_text(nccl->version), ", ", nccl->file,
             ", used with distributed.backend = \"nccl\" where there is a GPU");
}

std::string gpu_name(int gpu) {
  constexpr const char* kUnknown = "unknown GPU";
  const auto driver = DynamicLibrary::open_first({"libcuda.so.1"});
  if (!driver) return kUnknown;
  int (*device_get)(int* device, int number) = nullptr;
  int (*device_get_name)(char* name, int length, int device) = nullptr;
  driver->find("cuDeviceGet", device_get);
  driver->find("cuDeviceGetName", device_get_name);
  int device = 0;
  std::array<char, 256> name{};
  const bool is_known = device_get(&device, gpu) == CudaRuntime::kSuccess &&
                        device_get_name(name.data(), name.size(), device) == CudaRuntime::kSuccess;
  return is_known ? name.data() : kUnknown;
}

std::string describe_cuda_here() { return describe_found<CudaRuntime>(load_cuda_runtime); }
std::string describe_nccl_here() { return describe_found<NcclLibrary>(load_nccl_library); }

}  // namespace triphase::dist
