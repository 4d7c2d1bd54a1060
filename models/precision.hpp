// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace triphase::models {

/// Autocast as it was when this was made, for one kind of device; with `off()` switched off until the
/// guard's end. The state is the thread's own.
class AutocastGuard {
 public:
  explicit AutocastGuard(at::DeviceType device);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;
  void set(bool enabled, at::ScalarType dtype, bool cache_enabled) const;
  void off() const;
  [[nodiscard]] bool enabled() const { return enabled_; }
  [[nodiscard]] at::ScalarType dtype() const { return dtype_; }

 private:
  at::DeviceType device_;
  bool enabled_;
  at::ScalarType dtype_;
  bool cache_enabled_;
};

/// float32 for half and bfloat16, anything else as it is. What norms, pooling and heads compute in.
[[nodiscard]] at::Tensor widened(const at::Tensor& x);

/// A parameter beside an input: where autocast does not bring the two together, the parameter follows the
/// input's dtype (a no-op when they agree).
[[nodiscard]] at::Tensor matching(const at::Tensor& parameter, const at::Tensor& x);

/// Rows divided by their Euclidean norms, in float32 or wider, without an epsilon.
[[nodiscard]] at::Tensor unit_rows(const at::Tensor& rows);

}  // namespace triphase::models
