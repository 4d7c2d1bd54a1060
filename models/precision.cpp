// SPDX-License-Identifier: Apache-2.0
#include "models/precision.hpp"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

namespace triphase::models {

AutocastGuard::AutocastGuard(at::DeviceType device)
    : device_(device),
      enabled_(at::autocast::is_autocast_enabled(device)),
      dtype_(at::autocast::get_autocast_dtype(device)),
      cache_enabled_(at::autocast::is_autocast_cache_enabled()) {}

AutocastGuard::~AutocastGuard() { set(enabled_, dtype_, cache_enabled_); }

void AutocastGuard::set(bool enabled, at::ScalarType dtype, bool cache_enabled) const {
  at::autocast::set_autocast_enabled(device_, enabled);
  at::autocast::set_autocast_dtype(device_, dtype);
  at::autocast::set_autocast_cache_enabled(cache_enabled);
}

void AutocastGuard::off() const { at::autocast::set_autocast_enabled(device_, false); }

at::Tensor widened(const at::Tensor& x) {
  const bool narrow = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  return narrow ? x.to(at::kFloat) : x;
}

at::Tensor matching(const at::Tensor& parameter, const at::Tensor& x) {
  if (!parameter.defined() || parameter.scalar_type() == x.scalar_type() ||
      at::autocast::is_autocast_enabled(x.device().type()))
    return parameter;
  return parameter.to(x.scalar_type());
}

at::Tensor unit_rows(const at::Tensor& rows) {
  const at::Tensor wide = widened(rows);
  return wide / at::norm(wide, 2, /*dim=*/{-1}, /*keepdim=*/true);
}

}  // namespace triphase::models
