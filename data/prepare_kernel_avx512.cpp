// SPDX-License-Identifier: Apache-2.0
#include "data/prepare_kernel_lines.hpp"

namespace triphase::data {
namespace {
bool is_usable() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
}  // namespace

extern const PrepareKernel kPrepareKernel_avx512;
constinit const PrepareKernel kPrepareKernel_avx512 = kernel_of("avx512", is_usable);

}  // namespace triphase::data
