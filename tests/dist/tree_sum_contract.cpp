// SPDX-License-Identifier: Apache-2.0
#include "dist/tree_sum.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include <bit>

#include "base/error.hpp"
#include "dist/gradient_reducer.hpp"
#include "tests/dist/backends.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

using dist::GradientReducer;
using dist::ProcessGroup;

TRIPHASE_CONTRACT(TreeSumContract);

constexpr int kLeaves = 16;

at::Tensor leaf(int number, at::ScalarType dtype = at::kFloat) {
  return rank_values(number, {1000}, dtype);
}

/// Leaves [first, first + count), by the definition.
at::Tensor tree_of(int first, int count, at::ScalarType dtype = at::kFloat) {
  if (count == 1) return leaf(first, dtype);
  return tree_of(first, count / 2, dtype) + tree_of(first + count / 2, count / 2, dtype);
}

/// All leaves in one process, and the leaves of each rank summed one after another: another rounding.
at::Tensor rank_by_rank(int num_ranks) {
  at::Tensor sum = at::zeros({1000});
  for (int r = 0; r < num_ranks; ++r) {
    at::Tensor part = leaf(r * kLeaves / num_ranks);
    for (int i = 1; i < kLeaves / num_ranks; ++i) part = part + leaf(r * kLeaves / num_ranks + i);
    sum = sum + part;
  }
  return sum;
}

bool is_tree(const ProcessGroup& group) {
  return std::has_single_bit(static_cast<unsigned>(group.num_ranks()));
}

TEST(TreeSum, IsTheTreesSumForLeavesInEitherOrder) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16})
    for (int count = 1; count <= 64; count *= 2)
      for (const bool is_reversed : {false, true}) {
        dist::TreeSum sum;
        for (int i = 0; i < count; ++i)
          sum.add({leaf(is_reversed ? count - 1 - i : i, dtype)});
        EXPECT_EQ(sum.num_leaves(), count);
        EXPECT_TRUE(same_bits(sum.take().at(0), tree_of(0, count, dtype))) << count;
        EXPECT_EQ(sum.num_leaves(), 0);
      }
}

TEST(TreeSum, ATreeThatIsNotCompleteIsRefused) {
  for (const int count : {0, 3, 6, 7, 12}) {
    dist::TreeSum sum;
    for (int i = 0; i < count; ++i) sum.add({leaf(i)});
    EXPECT_THROW(static_cast<void>(sum.take()), InternalError) << count;
  }
}

TEST_P(TreeSumContract, EveryNumberOfRanksGivesTheSameBits) {
  GetParam().run([](ProcessGroup& group) {
    if (!is_tree(group)) {
      EXPECT_THROW(static_cast<void>(dist::sum_over_rank_tree(group, leaf(0))), InternalError);
      return;
    }
    const int mine = kLeaves / group.num_ranks();
    dist::TreeSum own;
    for (int i = mine - 1; i >= 0; --i) own.add({leaf(group.rank() * mine + i)});
    const at::Tensor sum = own.take().at(0);
    const dist::TreeSumCost cost = dist::sum_over_rank_tree(group, sum);
    EXPECT_TRUE(same_bits(sum, tree_of(0, kLeaves)));
    EXPECT_EQ(cost.bytes,
              4000 * (std::bit_width(static_cast<unsigned>(group.num_ranks())) - 1));
    EXPECT_FALSE(same_bits(sum, rank_by_rank(group.num_ranks())))
        << "any order gives these bits: the test shows nothing";
  });
}

TEST_P(TreeSumContract, TheReducersLeavesMakeTheTree) {
  GetParam().run([](ProcessGroup& group) {
    if (!is_tree(group)) return;
    at::Tensor first = torch::zeros({600}).requires_grad_();
    at::Tensor second = torch::zeros({400}).requires_grad_();
    GradientReducer reducer(group, {{"first", first}, {"second", second}},
                            {.bucket_bytes = 64, .is_ordered = true});
    const int mine = kLeaves / group.num_ranks();
    for (int step = 0; step < 2; ++step) {
      reducer.zero_gradients();
      reducer.passes([&] {
        for (int i = mine - 1; i >= 0; --i) {
          const at::Tensor values = leaf(group.rank() * mine + i);
          ((first * values.narrow(0, 0, 600)).sum() + (second * values.narrow(0, 600, 400)).sum())
              .backward();
          reducer.end_leaf();
        }
      });
      const dist::ReduceReport report = reducer.reduce();
      const at::Tensor expected = tree_of(0, kLeaves);
      EXPECT_TRUE(same_bits(first.grad(), expected.narrow(0, 0, 600)));
      EXPECT_TRUE(same_bits(second.grad(), expected.narrow(0, 600, 400)));
      EXPECT_EQ(report.bytes,
                4000 * (std::bit_width(static_cast<unsigned>(group.num_ranks())) - 1));
    }
  });
}

TEST_P(TreeSumContract, OptionsThatExcludeEachOtherAreRefused) {
  GetParam().run([](ProcessGroup& group) {
    const at::Tensor parameter = torch::zeros({4}).requires_grad_();
    for (const dist::GradientReducerOptions& options :
         {dist::GradientReducerOptions{.overlap = dist::Overlap::kOn, .is_ordered = true},
          dist::GradientReducerOptions{.is_sharded = true, .is_ordered = true},
          dist::GradientReducerOptions{.wire_dtype = dist::WireDtype::kBfloat16,
                                       .is_ordered = true}})
      EXPECT_THROW(GradientReducer(group, {{"p", parameter}}, options), InternalError);
  });
}

}  // namespace
}  // namespace triphase::test
