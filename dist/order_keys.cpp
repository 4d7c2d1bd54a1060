// SPDX-License-Identifier: Apache-2.0
#include "dist/order_keys.hpp"

#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/where.h>

#include <cstdint>
#include <limits>

namespace triphase::dist {
namespace {

/// Turns the order of the negative ones round; its own inverse.
at::Tensor turn_negative(const at::Tensor& bits) {
  const std::int64_t all_but_sign = bits.scalar_type() == at::kLong
                                        ? std::numeric_limits<std::int64_t>::max()
                                        : std::numeric_limits<std::int32_t>::max();
  return at::where(bits.lt(0), at::bitwise_xor(bits, all_but_sign), bits);
}

}  // namespace

at::Tensor order_keys(const at::Tensor& values, bool is_for_max) {
  // A float holds every bfloat16.
  const at::Tensor wide = values.scalar_type() == at::kBFloat16 ? values.to(at::kFloat) : values;
  const bool is_double = wide.scalar_type() == at::kDouble;
  const at::Tensor keys = turn_negative(wide.view(is_double ? at::kLong : at::kInt));
  const std::int64_t beyond =
      is_double ? (is_for_max ? std::numeric_limits<std::int64_t>::max()
                              : std::numeric_limits<std::int64_t>::min())
                : (is_for_max ? std::numeric_limits<std::int32_t>::max()
                              : std::numeric_limits<std::int32_t>::min());
  return keys.masked_fill(at::isnan(wide), beyond);  // the bits of a not-a-number of that sign
}

at::Tensor from_order_keys(const at::Tensor& keys, at::ScalarType dtype) {
  const bool is_double = keys.scalar_type() == at::kLong;
  return turn_negative(keys).view(is_double ? at::kDouble : at::kFloat).to(dtype);
}

}  // namespace triphase::dist
