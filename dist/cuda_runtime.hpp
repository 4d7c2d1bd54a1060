// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <optional>
#include <string>
#include <vector>

namespace triphase::dist {

/// The few functions of CUDA's runtime that communication needs, found when the program runs: it is
/// built without CUDA's headers. Declared as in the public API of CUDA 12 and 13; handles are
/// pointers, error codes and flags plain ints.
struct CudaRuntime {
  using Stream = void*;
  using Event = void*;
  static constexpr int kSuccess = 0;
  static constexpr int kNotReady = 600;
  static constexpr unsigned kStreamNonBlocking = 1;
  static constexpr unsigned kEventDisableTiming = 2;

  const char* (*get_error_string)(int code) = nullptr;
  int (*runtime_get_version)(int* version) = nullptr;  ///< 1000 * major + 10 * minor
  int (*get_device_count)(int* count) = nullptr;
  int (*device_get_pci_bus_id)(char* text, int length, int device) = nullptr;
  int (*set_device)(int device) = nullptr;
  int (*stream_create_with_flags)(Stream* stream, unsigned flags) = nullptr;
  int (*stream_destroy)(Stream stream) = nullptr;
  int (*stream_wait_event)(Stream stream, Event event, unsigned flags) = nullptr;
  int (*event_create_with_flags)(Event* event, unsigned flags) = nullptr;
  int (*event_destroy)(Event event) = nullptr;
  int (*event_record)(Event event, Stream stream) = nullptr;
  int (*event_query)(Event event) = nullptr;
  /// The stream on which this thread's tensors of `device` are computed: asked of LibTorch, not of CUDA.
  Stream (*current_stream)(int device) = nullptr;

  std::string file;  ///< where it was found
};

/// Opens the library that LibTorch carries, or the system's.
/// @return nothing where there is none. @throws CommError for one that lacks a function. Purely local.
[[nodiscard]] std::optional<CudaRuntime> load_cuda_runtime(const std::vector<std::string>& files);
[[nodiscard]] std::optional<CudaRuntime> load_cuda_runtime();

/// How many GPUs this process sees; `problem` says why there are none. Purely local.
[[nodiscard]] int count_gpus(const CudaRuntime& cuda, std::string& problem);

/// Such as "13.0". Purely local.
[[nodiscard]] std::string version_text(const CudaRuntime& cuda);

inline void cuda_check(const CudaRuntime& cuda, int code, const char* expression) {
  if (code != CudaRuntime::kSuccess)
    throw CommError(str(expression, " failed: ", cuda.get_error_string(code)));
}

}  // namespace triphase::dist

/// Throws CommError with the call's text and CUDA's own words when it fails.
#define CUDA_TRY(cuda, ...) \
  ::triphase::dist::cuda_check((cuda), (cuda).__VA_ARGS__, "CUDA: " #__VA_ARGS__)
