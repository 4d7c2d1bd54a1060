// SPDX-License-Identifier: Apache-2.0
#include "trainer/compute_scope.hpp"

#include <ATen/autocast_mode.h>

namespace triphase::trainer {

at::Tensor model_input(const at::Tensor& volumes, const PrecisionOptions& precision) {
  at::Tensor input = precision.compute == "float64" ? volumes.to(at::kDouble) : volumes;
  if (precision.memory_format == "channels_last_3d")
    input = input.contiguous(at::MemoryFormat::ChannelsLast3d);
  return input;
}

ComputeScope::ComputeScope(const PrecisionOptions& precision)
    : is_on_(precision.compute == "bfloat16") {
  if (!is_on_) return;
  was_on_ = at::autocast::is_autocast_enabled(at::kCPU);
  old_dtype_ = at::autocast::get_autocast_dtype(at::kCPU);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
}

ComputeScope::~ComputeScope() {
  if (!is_on_) return;
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, was_on_);
  at::autocast::set_autocast_dtype(at::kCPU, old_dtype_);
}

}  // namespace triphase::trainer
