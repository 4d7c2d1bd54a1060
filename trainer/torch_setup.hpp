// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/logging.hpp"
#include "dist/runtime.hpp"
#include "trainer/run_config.hpp"

#include <c10/core/Device.h>

#include <string>

namespace triphase::trainer {

/// Threads that each rank computes with: OMP_NUM_THREADS where it is set; else the cores that a
/// process may use, shared among the ranks of its host unless the launcher has bound each rank to
/// cores of its own. The smallest of any rank's. Collective over runtime.world().
[[nodiscard]] int agreed_threads(dist::Runtime& runtime);

/// What this rank computes with.
struct TorchSetup {
  int threads = 1;
  at::Device device = at::kCPU;  ///< the CPU, or a GPU of the rank's own
  std::string why_cpu;           ///< where there are GPUs that "auto" does not use; else empty
};

/// Gives LibTorch those threads, and deterministic kernels where precision asks for them, and finds
/// the device. Several ranks with GPUs talk by NCCL from here on, so that runtime.world() may be
/// another group afterwards; where they cannot (two would share a GPU), "auto" stays on the CPU. Whatever computes with a model calls this first. Collective over
/// runtime.world().
/// @throws AgreedError of kind ConfigError when precision.device is 'cuda' and a rank has no GPU, or
///         device and distributed.backend do not fit; what Runtime::use_nccl() throws
/// @param backend distributed.backend
TorchSetup set_up_torch(const PrecisionOptions& precision, dist::Runtime& runtime,
                        const std::string& backend = "auto");

/// Says on the log why GPUs are left alone, where they are.
void warn_of_idle_gpus(const TorchSetup& setup, Logger& log);

/// "cpu", or "cuda:0 (NVIDIA H100 80GB HBM3)". Purely local.
[[nodiscard]] std::string describe_device(const at::Device& device);

}  // namespace triphase::trainer
