// SPDX-License-Identifier: Apache-2.0
#include "data/prepare_kernel_lines.hpp"

namespace triphase::data {
namespace {
bool is_usable() { return __builtin_cpu_supports("avx2"); }
}  // namespace

extern const PrepareKernel kPrepareKernel_avx2;
constinit const PrepareKernel kPrepareKernel_avx2 = kernel_of("avx2", is_usable);

}  // namespace triphase::data
