// SPDX-License-Identifier: Apache-2.0
#include "dist/cuda_runtime.hpp"

#include "dist/dynamic_library.hpp"

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace triphase::dist {
namespace {

CudaRuntime::Stream torch_stream(int device) {
  const c10::impl::VirtualGuardImpl guard(c10::kCUDA);
  return guard.getStream(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(device)))
      .native_handle();
}

}  // namespace

std::optional<CudaRuntime> load_cuda_runtime(const std::vector<std::string>& files) {
  const auto library = DynamicLibrary::open_first(files);
  if (!library) return std::nullopt;
  CudaRuntime cuda;
  cuda.file = library->file();
  library->find("cudaGetErrorString", cuda.get_error_string);
  library->find("cudaRuntimeGetVersion", cuda.runtime_get_version);
  library->find("cudaGetDeviceCount", cuda.get_device_count);
  library->find("cudaDeviceGetPCIBusId", cuda.device_get_pci_bus_id);
  library->find("cudaSetDevice", cuda.set_device);
  library->find("cudaStreamCreateWithFlags", cuda.stream_create_with_flags);
  library->find("cudaStreamDestroy", cuda.stream_destroy);
  library->find("cudaStreamWaitEvent", cuda.stream_wait_event);
  library->find("cudaEventCreateWithFlags", cuda.event_create_with_flags);
  library->find("cudaEventDestroy", cuda.event_destroy);
  library->find("cudaEventRecord", cuda.event_record);
  library->find("cudaEventQuery", cuda.event_query);
  cuda.current_stream = torch_stream;
  return cuda;
}

std::optional<CudaRuntime> load_cuda_runtime() {
  std::vector<std::string> files;
  const std::string folder = libtorch_folder();
  for (const char* name : {"libcudart.so.13", "libcudart.so.12"}) {
    if (!folder.empty()) {
      files.push_back(folder + name);
      files.push_back(folder + "../../nvidia/cu13/lib/" + name);
      files.push_back(folder + "../../nvidia/cuda_runtime/lib/" + name);
    }
    files.emplace_back(name);
  }
  return load_cuda_runtime(files);
}

int count_gpus(const CudaRuntime& cuda, std::string& problem) {
  int count = 0;
  const int code = cuda.get_device_count(&count);
  if (code != CudaRuntime::kSuccess) {
    problem = cuda.get_error_string(code);
    return 0;
  }
  if (count == 0) problem = "no device";
  return count;
}

std::string version_text(const CudaRuntime& cuda) {
  int version = 0;
  if (cuda.runtime_get_version(&version) != CudaRuntime::kSuccess) return "of unknown version";
  return str(version / 1000, ".", version % 1000 / 10);
}

}  // namespace triphase::dist
