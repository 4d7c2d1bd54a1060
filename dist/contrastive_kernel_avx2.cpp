// SPDX-License-Identifier: Apache-2.0
#define TRIPHASE_LANE_BYTES 32
#include "dist/contrastive_kernel_lanes.hpp"

namespace triphase::dist {
namespace {
bool is_usable() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
}  // namespace

extern const ContrastiveKernel<float> kContrastiveKernelFloat_avx2;
extern const ContrastiveKernel<double> kContrastiveKernelDouble_avx2;
constinit const ContrastiveKernel<float> kContrastiveKernelFloat_avx2 =
    kernel_of<float>("avx2", is_usable);
constinit const ContrastiveKernel<double> kContrastiveKernelDouble_avx2 =
    kernel_of<double>("avx2", is_usable);

}  // namespace triphase::dist
