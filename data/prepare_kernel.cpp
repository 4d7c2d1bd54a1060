// SPDX-License-Identifier: Apache-2.0
#include "data/prepare_kernel.hpp"

#include <algorithm>
#include <array>

namespace triphase::data {

#ifdef TRIPHASE_KERNELS_OF_X86
extern const PrepareKernel kPrepareKernel_avx512, kPrepareKernel_avx2;
#endif
extern const PrepareKernel kPrepareKernel_any;

namespace {
#ifdef TRIPHASE_KERNELS_OF_X86
constexpr std::array kKernels{&kPrepareKernel_avx512, &kPrepareKernel_avx2, &kPrepareKernel_any};
#else
constexpr std::array kKernels{&kPrepareKernel_any};
#endif
}  // namespace

const PrepareKernel* const* all_prepare_kernels(int& count) {
  count = static_cast<int>(kKernels.size());
  return kKernels.data();
}

const PrepareKernel& prepare_kernel() {
  return **std::find_if(kKernels.begin(), kKernels.end(),
                        [](const PrepareKernel* kernel) { return kernel->is_usable(); });
}

}  // namespace triphase::data
