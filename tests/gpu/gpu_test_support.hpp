// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/test_support.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

/// First line of a test that needs a GPU; elsewhere it shows as skipped, with this reason.
#define TRIPHASE_NEEDS_GPU() \
  if (!at::hasCUDA()) GTEST_SKIP() << "this machine has no GPU: this case was NOT checked"

namespace triphase::test {

inline const at::Device kGpu{at::kCUDA, 0};

/// Deterministic algorithms while it lives, as precision.deterministic asks for them.
class Deterministic {
 public:
  Deterministic() {
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    at::globalContext().setDeterministicAlgorithms(true, false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    at::globalContext().setDeterministicCuDNN(true);
    at::globalContext().setAllowTF32CuDNN(false);
    at::globalContext().setAllowTF32CuBLAS(false);
  }
  ~Deterministic() { at::globalContext().setDeterministicAlgorithms(false, false); }
  Deterministic(const Deterministic&) = delete;
  Deterministic& operator=(const Deterministic&) = delete;
};

}  // namespace triphase::test
