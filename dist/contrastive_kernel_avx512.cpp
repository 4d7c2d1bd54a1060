// SPDX-License-Identifier: Apache-2.0
#define TRIPHASE_LANE_BYTES 64
#include "dist/contrastive_kernel_lanes.hpp"

namespace triphase::dist {
namespace {
bool is_usable() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); }
}  // namespace

extern const ContrastiveKernel<float> kContrastiveKernelFloat_avx512;
extern const ContrastiveKernel<double> kContrastiveKernelDouble_avx512;
constinit const ContrastiveKernel<float> kContrastiveKernelFloat_avx512 =
    kernel_of<float>("avx512", is_usable);
constinit const ContrastiveKernel<double> kContrastiveKernelDouble_avx512 =
    kernel_of<double>("avx512", is_usable);

}  // namespace triphase::dist
