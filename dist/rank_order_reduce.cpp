// SPDX-License-Identifier: Apache-2.0
#include "dist/rank_order_reduce.hpp"

#include "base/error.hpp"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <array>
#include <type_traits>

namespace triphase::dist {
namespace {

/// Elements summed at a time: the sums stay in the first-level cache.
constexpr std::int64_t kBlock = 1024;

struct Sum {
  template <class T>
  static T join(T a, T b) {
    return static_cast<T>(a + b);
  }
};
struct Max {
  template <class T>
  static T join(T a, T b) {
    return (b > a || b != b) ? b : a;
  }
};
struct Min {
  template <class T>
  static T join(T a, T b) {
    return (b < a || b != b) ? b : a;
  }
};

template <class Op, class Accumulator, class T>
void join_into(Accumulator* __restrict sums, const T* __restrict values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    sums[i] = Op::join(sums[i], static_cast<Accumulator>(values[i]));
}

template <class T, class Op>
void reduce(const std::byte* pieces, std::int64_t stride_bytes, int num_pieces, std::int64_t count,
            std::byte* out) {
  using Accumulator = std::conditional_t<std::is_same_v<T, c10::BFloat16>, float, T>;
  std::array<Accumulator, kBlock> sums;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t n = std::min(kBlock, count - begin);
    for (int r = 0; r < num_pieces; ++r) {
      const T* values = reinterpret_cast<const T*>(pieces + r * stride_bytes) + begin;
      if (r == 0)
        std::transform(values, values + n, sums.begin(),
                       [](T v) { return static_cast<Accumulator>(v); });
      else
        join_into<Op>(sums.data(), values, n);
    }
    T* result = reinterpret_cast<T*>(out) + begin;
    std::transform(sums.begin(), sums.begin() + n, result,
                   [](Accumulator v) { return static_cast<T>(v); });
  }
}

template <class T>
void reduce_with(ReduceOp op, const std::byte* pieces, std::int64_t stride_bytes, int num_pieces,
                 std::int64_t count, std::byte* out) {
  switch (op) {
    case ReduceOp::kSum: return reduce<T, Sum>(pieces, stride_bytes, num_pieces, count, out);
    case ReduceOp::kMax: return reduce<T, Max>(pieces, stride_bytes, num_pieces, count, out);
    case ReduceOp::kMin: return reduce<T, Min>(pieces, stride_bytes, num_pieces, count, out);
  }
}

}  // namespace

void reduce_in_rank_order(at::ScalarType dtype, ReduceOp op, const std::byte* pieces,
                          std::int64_t stride_bytes, int num_pieces, std::int64_t count,
                          std::byte* out) {
  const auto run = [&](auto zero) {
    reduce_with<decltype(zero)>(op, pieces, stride_bytes, num_pieces, count, out);
  };
  switch (dtype) {
    case at::kDouble: return run(double{});
    case at::kFloat: return run(float{});
    case at::kBFloat16: return run(c10::BFloat16{});
    case at::kLong: return run(std::int64_t{});
    case at::kByte: return run(std::uint8_t{});
    default: throw InternalError(str("no reduction for dtype ", c10::toString(dtype)));
  }
}

}  // namespace triphase::dist
