// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/cuda_runtime.hpp"
#include "dist/nccl_library.hpp"

#include <memory>
#include <optional>
#include <string>

namespace triphase::dist {

/// What the nccl backend calls.
struct GpuLibraries {
  CudaRuntime cuda;
  NcclLibrary nccl;
};

/// @throws CommError that says what is missing: CUDA's runtime, a GPU, or an NCCL that fits. Purely
/// local.
[[nodiscard]] std::shared_ptr<const GpuLibraries> require_gpu_libraries(
    std::optional<CudaRuntime> cuda, std::optional<NcclLibrary> nccl);

/// What was found where, its version and what follows, for a reader. Purely local.
[[nodiscard]] std::string describe(const std::optional<CudaRuntime>& cuda);
[[nodiscard]] std::string describe(const std::optional<NcclLibrary>& nccl);

/// Such as "NVIDIA H100 80GB HBM3"; "unknown GPU" where the driver does not say. Purely local.
[[nodiscard]] std::string gpu_name(int gpu);

/// describe() of what this process finds, or why it cannot be used. Purely local.
[[nodiscard]] std::string describe_cuda_here();
[[nodiscard]] std::string describe_nccl_here();

}  // namespace triphase::dist
