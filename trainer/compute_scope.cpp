// SPDX-License-Identifier: Apache-2.0
#include "trainer/compute_scope.hpp"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace triphase::trainer {

at::Tensor model_input(const at::Tensor& volumes, const PrecisionOptions& precision,
                       const at::Device& device) {
  at::Tensor input = volumes.to(device, /*non_blocking=*/true);
  if (precision.compute == "float64") input = input.to(at::kDouble);
  if (precision.memory_format == "channels_last_3d")
    input = input.contiguous(at::MemoryFormat::ChannelsLast3d);
  return input;
}

void finish_on(const at::Device& device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

ComputeScope::ComputeScope(const PrecisionOptions& precision, at::DeviceType device)
    : device_(device), is_on_(precision.compute == "bfloat16") {
  if (!is_on_) return;
  was_on_ = at::autocast::is_autocast_enabled(device_);
  old_dtype_ = at::autocast::get_autocast_dtype(device_);
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, true);
}

ComputeScope::~ComputeScope() {
  if (!is_on_) return;
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, was_on_);
  at::autocast::set_autocast_dtype(device_, old_dtype_);
}

}  // namespace triphase::trainer
