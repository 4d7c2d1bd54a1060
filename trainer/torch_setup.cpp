// SPDX-License-Identifier: Apache-2.0
#include "trainer/torch_setup.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "base/parallel.hpp"

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

int set_up_torch(const PrecisionOptions& precision, dist::Runtime& runtime) {
  const int threads = agreed_threads(runtime);
  at::set_num_threads(threads);
  at::globalContext().setDeterministicAlgorithms(precision.deterministic, /*warn_only=*/false);
  // Its companion setting would fill every new tensor with NaN, a second write of all activations.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  return threads;
}

}  // namespace triphase::trainer
