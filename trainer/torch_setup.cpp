// SPDX-License-Identifier: Apache-2.0
#include "trainer/torch_setup.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "base/error.hpp"
#include "base/parallel.hpp"
#include "dist/gpu_libraries.hpp"

namespace triphase::trainer {
namespace {

/// Ranks with more threads than cores are several times slower.
int threads_here(const dist::Runtime& runtime) {
  if (const char* given = std::getenv("OMP_NUM_THREADS"); given != nullptr && std::atoi(given) > 0)
    return std::atoi(given);
  const int cores = available_cores();
  const bool is_bound = cores < static_cast<int>(std::thread::hardware_concurrency());
  return is_bound ? cores : std::max(1, cores / runtime.local_num_ranks());
}

}  // namespace

// Replicas stay equal to the bit only where kernels divide their work alike.
int agreed_threads(dist::Runtime& runtime) {
  const at::Tensor threads = at::full({1}, threads_here(runtime), at::kLong);
  return static_cast<int>(
      runtime.world().all_reduce(threads, dist::ReduceOp::kMin)->wait().item<std::int64_t>());
}

namespace {

/// The GPU of this rank, if it is to use one. Collective.
at::Device agreed_device(const PrecisionOptions& precision, dist::Runtime& runtime,
                         const std::string& backend, std::string& why_cpu) {
  const bool is_forced = precision.device == "cuda";
  const bool is_by_mpi = backend == "mpi" && runtime.num_ranks() > 1;
  TRIPHASE_CHECK(ConfigError, !is_forced || !is_by_mpi,
                 "precision.device is 'cuda' and distributed.backend is 'mpi', which moves host memory "
                 "between ranks. Set distributed.backend to 'auto' or 'nccl', or precision.device to 'cpu'.");
  if (precision.device == "cpu" || is_by_mpi) return at::kCPU;
  const bool lacks_gpu = dist::any_rank(runtime.world(), !at::hasCUDA());
  dist::agree_on(runtime.world(), [&] {
    TRIPHASE_CHECK(ConfigError, !is_forced || at::hasCUDA(),
                   "precision.device is 'cuda', and LibTorch sees no GPU here. Look at triphase doctor, or "
                   "set precision.device to 'auto' or 'cpu'.");
  });
  if (lacks_gpu) return at::kCPU;
  try {
    if (runtime.num_ranks() > 1) runtime.use_nccl();
  } catch (const dist::AgreedError& error) {  // before a connection was tried
    if (is_forced || backend == "nccl") throw;
    why_cpu = error.message();
    return at::kCPU;
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(runtime.gpu())};
}

/// How GPUs compute. cuBLAS reads its variable when it is first used.
void set_up_cuda(const PrecisionOptions& precision) {
  if (precision.deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::Context& context = at::globalContext();
  context.setDeterministicCuDNN(precision.deterministic);
  // The fastest kernel for each shape, as it is measured: another one at another time, with other bits.
  context.setBenchmarkCuDNN(!precision.deterministic);
  context.setAllowTF32CuBLAS(precision.tf32);
  context.setAllowTF32CuDNN(precision.tf32);
}

}  // namespace

TorchSetup set_up_torch(const PrecisionOptions& precision, dist::Runtime& runtime,
                        const std::string& backend) {
  TorchSetup setup;
  setup.threads = agreed_threads(runtime);
  setup.device = agreed_device(precision, runtime, backend, setup.why_cpu);
  at::set_num_threads(setup.threads);
  at::globalContext().setDeterministicAlgorithms(precision.deterministic, /*warn_only=*/false);
  // Its companion setting would fill every new tensor with NaN, a second write of all activations.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  if (setup.device.is_cuda()) set_up_cuda(precision);
  return setup;
}

void warn_of_idle_gpus(const TorchSetup& setup, Logger& log) {
  if (!setup.why_cpu.empty() && log.options().rank == 0)
    log.warning("there are GPUs, and this run computes on the CPU: ", setup.why_cpu);
}

std::string describe_device(const at::Device& device) {
  return device.is_cpu() ? "cpu" : str(device.str(), " (", dist::gpu_name(device.index()), ")");
}

}  // namespace triphase::trainer
