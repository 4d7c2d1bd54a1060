// SPDX-License-Identifier: Apache-2.0
#include "data/prepare_kernel_lines.hpp"

namespace triphase::data {
namespace {
bool is_usable() { return true; }
}  // namespace

extern const PrepareKernel kPrepareKernel_any;
constinit const PrepareKernel kPrepareKernel_any = kernel_of("any", is_usable);

}  // namespace triphase::data
