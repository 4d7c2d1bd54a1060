// SPDX-License-Identifier: Apache-2.0
#include "tests/dist/rank_values.hpp"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>

namespace triphase::test {
namespace {

/// Source: splitmix64, Steele, Lea and Flood 2014.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

}  // namespace

at::Tensor rank_values(int rank, at::IntArrayRef sizes, at::ScalarType dtype, std::uint64_t seed) {
  const bool is_floating = at::isFloatingType(dtype);
  at::Tensor values = at::empty(sizes, at::kDouble);
  auto* data = values.data_ptr<double>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const std::uint64_t bits =
        mix(seed + mix(static_cast<std::uint64_t>(rank) + mix(static_cast<std::uint64_t>(i))));
    const double unit = static_cast<double>(bits >> 11) * 0x1p-53;
    const double power = std::pow(10.0, static_cast<double>(bits % 7) - 3);
    data[i] = is_floating ? (2 * unit - 1) * power : std::floor(unit * 50);
  }
  return values.to(dtype);
}

at::Tensor serial_sum(int num_ranks, at::IntArrayRef sizes, at::ScalarType dtype,
                      std::uint64_t seed) {
  const at::ScalarType sum_dtype = dtype == at::kBFloat16 ? at::kFloat : dtype;
  at::Tensor sum = rank_values(0, sizes, dtype, seed).to(sum_dtype);
  for (int r = 1; r < num_ranks; ++r) sum.add_(rank_values(r, sizes, dtype, seed).to(sum_dtype));
  return sum.to(dtype);
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

}  // namespace triphase::test
