// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/runtime.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Threads that each rank computes with: OMP_NUM_THREADS where it is set; else the cores that a
/// process may use, shared among the ranks of its host unless the launcher has bound each rank to
/// cores of its own. The smallest of any rank's. Collective over runtime.world().
[[nodiscard]] int agreed_threads(dist::Runtime& runtime);

/// Gives LibTorch those threads, and deterministic kernels where precision asks for them. Whatever
/// computes with a model calls this first. Collective over runtime.world().
/// @return the threads
int set_up_torch(const PrecisionOptions& precision, dist::Runtime& runtime);

}  // namespace triphase::trainer
