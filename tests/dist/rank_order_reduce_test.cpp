// SPDX-License-Identifier: Apache-2.0
#include "dist/rank_order_reduce.hpp"

#include "dist/process_group.hpp"
#include "tests/support/test_support.hpp"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace triphase::test {
namespace {

using dist::ReduceOp;

/// One list of values for each piece, with unused bytes between the pieces.
template <class T>
std::vector<T> reduced(at::ScalarType dtype, ReduceOp op,
                       const std::vector<std::vector<T>>& pieces) {
  const std::size_t count = pieces[0].size();
  const std::size_t stride = count + 3;
  std::vector<T> memory(stride * pieces.size(), T(77));
  for (std::size_t r = 0; r < pieces.size(); ++r)
    std::copy(pieces[r].begin(), pieces[r].end(),
              memory.begin() + static_cast<std::ptrdiff_t>(r * stride));
  std::vector<T> out(count + 1, T(55));
  dist::reduce_in_rank_order(dtype, op, reinterpret_cast<const std::byte*>(memory.data()),
                             static_cast<std::int64_t>(stride * sizeof(T)),
                             static_cast<int>(pieces.size()), static_cast<std::int64_t>(count),
                             reinterpret_cast<std::byte*>(out.data()));
  EXPECT_TRUE(out.back() == T(55)) << "written past the end";
  out.pop_back();
  return out;
}

TEST(RankOrderReduce, TheOrderOfTheSumIsTheOrderOfTheRanks) {
  const auto sum = [](const std::vector<std::vector<float>>& pieces) {
    return reduced<float>(at::kFloat, ReduceOp::kSum, pieces)[0];
  };
  // In float32, 1e8 + 1 is 1e8.
  EXPECT_EQ(sum({{1e8F}, {1}, {-1e8F}}), 0);
  EXPECT_EQ(sum({{1e8F}, {-1e8F}, {1}}), 1);
  EXPECT_EQ(sum({{1}, {1e8F}, {-1e8F}}), 0);
}

TEST(RankOrderReduce, EveryDtypeAndOperationOverLongPieces) {
  for (const std::size_t count : {0U, 1U, 1023U, 1024U, 1025U, 5000U}) {
    std::vector<std::vector<std::int64_t>> values(3, std::vector<std::int64_t>(count));
    for (std::size_t r = 0; r < 3; ++r)
      for (std::size_t i = 0; i < count; ++i)
        values[r][i] = static_cast<std::int64_t>((i * (r + 3) + 11 * r) % 80);
    const auto check = [&](at::ScalarType dtype, auto zero) {
      using T = decltype(zero);
      const auto as_t = [](std::int64_t value) {  // exact: at most 237
        return static_cast<T>(
            static_cast<std::conditional_t<std::is_integral_v<T>, T, float>>(value));
      };
      std::vector<std::vector<T>> pieces;
      for (const auto& piece : values) {
        pieces.emplace_back();
        for (const std::int64_t value : piece) pieces.back().push_back(as_t(value));
      }
      const auto sums = reduced<T>(dtype, ReduceOp::kSum, pieces);
      const auto largest = reduced<T>(dtype, ReduceOp::kMax, pieces);
      const auto smallest = reduced<T>(dtype, ReduceOp::kMin, pieces);
      for (std::size_t i = 0; i < count; ++i) {
        const std::array<std::int64_t, 3> v{values[0][i], values[1][i], values[2][i]};
        ASSERT_TRUE(sums[i] == as_t(v[0] + v[1] + v[2])) << count << " at " << i;
        ASSERT_TRUE(largest[i] == as_t(*std::max_element(v.begin(), v.end())));
        ASSERT_TRUE(smallest[i] == as_t(*std::min_element(v.begin(), v.end())));
      }
    };
    check(at::kDouble, double{});
    check(at::kFloat, float{});
    check(at::kBFloat16, c10::BFloat16{});
    check(at::kLong, std::int64_t{});
    check(at::kByte, std::uint8_t{});
  }
}

TEST(RankOrderReduce, Bfloat16IsRoundedOnce) {
  // Two halves of a last place: rounded after each addition, both would be lost.
  const c10::BFloat16 one(1.0F);
  const c10::BFloat16 half_a_place(0x1p-8F);
  const auto sum = reduced<c10::BFloat16>(at::kBFloat16, ReduceOp::kSum,
                                          {{one}, {half_a_place}, {half_a_place}});
  EXPECT_EQ(static_cast<float>(sum[0]), 1 + 0x1p-7F);
}

TEST(RankOrderReduce, NotANumberComesThroughFromEveryRank) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin})
    for (std::size_t bad = 0; bad < 3; ++bad) {
      std::vector<std::vector<double>> pieces{{1}, {2}, {3}};
      pieces[bad][0] = nan;
      EXPECT_TRUE(std::isnan(reduced<double>(at::kDouble, op, pieces)[0])) << bad;
    }
}

TEST(RankOrderReduce, OnePieceIsCopied) {
  EXPECT_EQ(reduced<float>(at::kFloat, ReduceOp::kSum, {{1.5F, -2}}),
            (std::vector<float>{1.5F, -2}));
}

TEST(RankOrderReduce, ADtypeThatItDoesNotKnowIsOurOwnMistake) {
  std::array<std::byte, 8> bytes{};
  expect_error<InternalError>(
      [&] {
        dist::reduce_in_rank_order(at::kInt, ReduceOp::kSum, bytes.data(), 4, 2, 1, bytes.data());
      },
      ExitCode::kInternal, {"Int"});
}

}  // namespace
}  // namespace triphase::test
