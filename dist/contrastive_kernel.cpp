// SPDX-License-Identifier: Apache-2.0
#include "dist/contrastive_kernel.hpp"

#include <algorithm>
#include <array>

namespace triphase::dist {

#ifdef TRIPHASE_KERNELS_OF_X86
extern const ContrastiveKernel<float> kContrastiveKernelFloat_avx512, kContrastiveKernelFloat_avx2;
extern const ContrastiveKernel<double> kContrastiveKernelDouble_avx512,
    kContrastiveKernelDouble_avx2;
#endif
extern const ContrastiveKernel<float> kContrastiveKernelFloat_any;
extern const ContrastiveKernel<double> kContrastiveKernelDouble_any;

namespace {
#ifdef TRIPHASE_KERNELS_OF_X86
constexpr std::array kFloatKernels{&kContrastiveKernelFloat_avx512, &kContrastiveKernelFloat_avx2,
                                   &kContrastiveKernelFloat_any};
constexpr std::array kDoubleKernels{&kContrastiveKernelDouble_avx512,
                                    &kContrastiveKernelDouble_avx2, &kContrastiveKernelDouble_any};
#else
constexpr std::array kFloatKernels{&kContrastiveKernelFloat_any};
constexpr std::array kDoubleKernels{&kContrastiveKernelDouble_any};
#endif

template <class Kernels>
const auto& first_usable(const Kernels& kernels) {
  return **std::find_if(kernels.begin(), kernels.end(),
                        [](const auto* kernel) { return kernel->is_usable(); });
}
}  // namespace

template <>
const ContrastiveKernel<float>* const* all_contrastive_kernels<float>(int& count) {
  count = static_cast<int>(kFloatKernels.size());
  return kFloatKernels.data();
}
template <>
const ContrastiveKernel<double>* const* all_contrastive_kernels<double>(int& count) {
  count = static_cast<int>(kDoubleKernels.size());
  return kDoubleKernels.data();
}
template <>
const ContrastiveKernel<float>& contrastive_kernel<float>() {
  return first_usable(kFloatKernels);
}
template <>
const ContrastiveKernel<double>& contrastive_kernel<double>() {
  return first_usable(kDoubleKernels);
}

}  // namespace triphase::dist
