// SPDX-License-Identifier: Apache-2.0
#include "dist/wire_dtype.hpp"

#include "base/error.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstring>

namespace triphase::dist {
namespace {

template <class From, class To>
void convert(const void* from, void* to, std::int64_t count) {
  const auto* values = static_cast<const From*>(from);
  std::transform(values, values + count, static_cast<To*>(to), [](From value) {
    return static_cast<To>(static_cast<float>(value));  // bfloat16 is made of float
  });
}

void convert(at::ScalarType from_dtype, const void* from, at::ScalarType to_dtype, void* to,
             std::int64_t count) {
  if (to_dtype == at::kBFloat16 && from_dtype == at::kFloat)
    return convert<float, c10::BFloat16>(from, to, count);
  if (to_dtype == at::kBFloat16 && from_dtype == at::kDouble)
    return convert<double, c10::BFloat16>(from, to, count);
  if (from_dtype == at::kBFloat16 && to_dtype == at::kFloat)
    return convert<c10::BFloat16, float>(from, to, count);
  if (from_dtype == at::kBFloat16 && to_dtype == at::kDouble)
    return convert<c10::BFloat16, double>(from, to, count);
  throw InternalError(str("no way from ", at::toString(from_dtype), " to ", at::toString(to_dtype)));
}

}  // namespace

at::Tensor rounded_to_bfloat16(const at::Tensor& values) {
  if (!values.is_cpu()) return values.to(at::kBFloat16);
  at::Tensor result = at::empty(values.sizes(), values.options().dtype(at::kBFloat16));
  convert(values.scalar_type(), values.const_data_ptr(), at::kBFloat16, result.data_ptr(),
          values.numel());
  return result;
}

void copy_widening(const at::Tensor& values, const at::Tensor& into, std::int64_t offset) {
  if (!values.is_cpu()) {
    into.view({-1}).narrow(0, offset, values.numel()).copy_(values.view({-1}));
    return;
  }
  std::byte* to = static_cast<std::byte*>(into.data_ptr()) +
                  offset * static_cast<std::int64_t>(into.element_size());
  if (values.scalar_type() != into.scalar_type())
    return convert(values.scalar_type(), values.const_data_ptr(), into.scalar_type(), to,
                   values.numel());
  if (values.numel() > 0) std::memcpy(to, values.const_data_ptr(), values.nbytes());
}

}  // namespace triphase::dist
