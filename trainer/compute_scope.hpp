// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer/run_config.hpp"

#include <ATen/core/Tensor.h>

#include <memory>

namespace triphase::trainer {

/// Volumes in the dtype and memory format that precision asks for; the same tensor when they are so
/// already.
/// @param volumes [B,1,X,Y,Z]
[[nodiscard]] at::Tensor model_input(const at::Tensor& volumes, const PrecisionOptions& precision);

/// bfloat16 autocast while it lives when precision.compute asks for it, else nothing. Its end
/// empties autocast's cache of cast weights, so that no later pass sees weights from before an
/// update. The state is the thread's own.
class ComputeScope {
 public:
  explicit ComputeScope(const PrecisionOptions& precision);
  ~ComputeScope();
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;

 private:
  bool is_on_ = false;
  bool was_on_ = false;
  at::ScalarType old_dtype_ = at::ScalarType::Float;
};

}  // namespace triphase::trainer
