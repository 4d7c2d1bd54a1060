// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer/run_config.hpp"

#include <ATen/core/Tensor.h>

#include <memory>

namespace triphase::trainer {

/// Volumes on the device and in the dtype and memory format that they are computed in; the same
/// tensor when they are so already. From pinned memory the copy is on its way when this returns.
/// @param volumes [B,1,X,Y,Z]
[[nodiscard]] at::Tensor model_input(const at::Tensor& volumes, const PrecisionOptions& precision,
                                     const at::Device& device = at::kCPU);

/// Waits until a device has done what it was given. Nothing for the CPU.
void finish_on(const at::Device& device);

/// bfloat16 autocast while it lives when precision.compute asks for it, else nothing. Its end
/// empties autocast's cache of cast weights, so that no later pass sees weights from before an
/// update. The state is the thread's own.
class ComputeScope {
 public:
  explicit ComputeScope(const PrecisionOptions& precision,
                        at::DeviceType device = at::DeviceType::CPU);
  ~ComputeScope();
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;

 private:
  at::DeviceType device_;
  bool is_on_ = false;
  bool was_on_ = false;
  at::ScalarType old_dtype_ = at::ScalarType::Float;
};

}  // namespace triphase::trainer
