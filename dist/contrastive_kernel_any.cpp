// SPDX-License-Identifier: Apache-2.0
#define TRIPHASE_LANE_BYTES 16
#include "dist/contrastive_kernel_lanes.hpp"

namespace triphase::dist {
namespace {
bool is_usable() { return true; }
}  // namespace

extern const ContrastiveKernel<float> kContrastiveKernelFloat_any;
extern const ContrastiveKernel<double> kContrastiveKernelDouble_any;
constinit const ContrastiveKernel<float> kContrastiveKernelFloat_any =
    kernel_of<float>("any", is_usable);
constinit const ContrastiveKernel<double> kContrastiveKernelDouble_any =
    kernel_of<double>("any", is_usable);

}  // namespace triphase::dist
