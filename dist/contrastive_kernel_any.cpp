// SPDX-License-Identifier: Apache-2.0
#define TRIPHASE_LANE_BYTES 16
#include "dist/contrastive_kernel_lanes.hpp"

namespace triphase::dist {
namespace {
bool is_usable() { return true; }
}  // namespace

extern const ContrastiveKernel<float> kContrastiveKernelFloat_any;
extern const ContrastiveKernel<double> kContrastiveKernelDouble_any;
constinit const ContrastiveKernel<float> kContrastiveKernelFloat_any{"any",
                                                                     is_usable,
                                                                     maxima<float>,
                                                                     sums<float>,
                                                                     gradient<float>,
                                                                     exclude_other_groups<float>,
                                                                     softplus_sums<float>,
                                                                     sigmoid_gradient<float>};
constinit const ContrastiveKernel<double> kContrastiveKernelDouble_any{"any",
                                                                       is_usable,
                                                                       maxima<double>,
                                                                       sums<double>,
                                                                       gradient<double>,
                                                                       exclude_other_groups<double>,
                                                                       softplus_sums<double>,
                                                                       sigmoid_gradient<double>};

}  // namespace triphase::dist
