// SPDX-License-Identifier: Apache-2.0
// What every process group holds, whatever moves its bytes.
#include "dist/host_group.hpp"
#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

namespace triphase::test {
namespace {

using dist::ProcessGroup;
using dist::ReduceOp;

TRIPHASE_CONTRACT(ProcessGroupContract);

/// Limits so small that few elements already go through every branch of the algorithm.
constexpr dist::HostGroupLimits kTinyLimits{64, 96};

void check_sums(ProcessGroup& group, const std::vector<std::int64_t>& counts) {
  for (const at::ScalarType dtype : kDtypes) {
    for (const std::int64_t count : counts) {
      at::Tensor tensor = rank_values(group.rank(), {count}, dtype);
      const at::Tensor result = group.all_reduce(tensor, ReduceOp::kSum)->wait();
      EXPECT_TRUE(result.is_same(tensor));
      EXPECT_TRUE(same_bits(result, serial_sum(group.num_ranks(), {count}, dtype)))
          << count << " of " << at::toString(dtype);
    }
  }
}

TEST_P(ProcessGroupContract, SumsHaveTheBitsOfTheSerialSumInRankOrder) {
  GetParam().run([](ProcessGroup& group) {
    check_sums(group, {0, 1, 2, 3, 5, 17, 1000});
    dist::set_limits(group, kTinyLimits);
    check_sums(group,
               {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 191, 1000});
  });
}

TEST_P(ProcessGroupContract, SumsOfLongTensorsAreRightAroundTheRealLimits) {
  GetParam().run([](ProcessGroup& group) {
    const std::int64_t small = dist::HostGroupLimits{}.small_bytes / 4 / group.num_ranks();
    const std::int64_t chunk = dist::HostGroupLimits{}.chunk_bytes / 4;
    for (const std::int64_t count : {small - 1, small, small + 1, chunk - 1, chunk, chunk + 4}) {
      at::Tensor ones = at::full({count}, static_cast<double>(group.rank() + 1), at::kFloat);
      ones[count - 1] = 0.5;
      static_cast<void>(group.all_reduce(ones, ReduceOp::kSum)->wait());
      const auto n = static_cast<float>(group.num_ranks());
      EXPECT_EQ(ones.narrow(0, 0, count - 1).min().item<float>(), n * (n + 1) / 2);
      EXPECT_EQ(ones.narrow(0, 0, count - 1).max().item<float>(), n * (n + 1) / 2);
      EXPECT_EQ(ones[count - 1].item<float>(), n / 2);
    }
  });
}

TEST_P(ProcessGroupContract, MaxAndMinAreElementwiseAndPassNotANumberOn) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    for (const at::ScalarType dtype : kDtypes) {
      at::Tensor largest = rank_values(0, {37}, dtype);
      at::Tensor smallest = largest.clone();
      for (int r = 1; r < n; ++r) {
        largest = at::maximum(largest, rank_values(r, {37}, dtype));
        smallest = at::minimum(smallest, rank_values(r, {37}, dtype));
      }
      const auto reduce = [&](ReduceOp op) {
        return group.all_reduce(rank_values(group.rank(), {37}, dtype), op)->wait();
      };
      EXPECT_TRUE(same_bits(reduce(ReduceOp::kMax), largest)) << at::toString(dtype);
      EXPECT_TRUE(same_bits(reduce(ReduceOp::kMin), smallest)) << at::toString(dtype);
    }
    const bool is_last = group.rank() == n - 1;
    const double value = is_last ? std::numeric_limits<double>::quiet_NaN() : 1.0;
    for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin, ReduceOp::kSum})
      EXPECT_TRUE(
          std::isnan(group.all_reduce(at::full({1}, value, at::kFloat), op)->wait().item<float>()));
  });
}

TEST_P(ProcessGroupContract, AllGatherKeepsRankOrder) {
  GetParam().run([](ProcessGroup& group) {
    for (const at::ScalarType dtype : kDtypes) {
      for (const std::vector<std::int64_t>& sizes :
           {std::vector<std::int64_t>{1}, {2, 3}, {0, 3}, {3, 0}, {5, 1, 7}, {100, 33}}) {
        const at::Tensor rows = rank_values(group.rank(), sizes, dtype);
        const at::Tensor all = group.all_gather(rows)->wait();
        ASSERT_EQ(all.size(0), sizes[0] * group.num_ranks());
        for (int r = 0; r < group.num_ranks(); ++r)
          EXPECT_TRUE(
              same_bits(all.narrow(0, r * sizes[0], sizes[0]), rank_values(r, sizes, dtype)));
      }
    }
  });
}

TEST_P(ProcessGroupContract, ReduceScatterGivesEachRankItsBlockOfTheSum) {
  GetParam().run([](ProcessGroup& group) {
    const std::int64_t n = group.num_ranks();
    for (const bool is_tiny : {false, true}) {
      if (is_tiny) dist::set_limits(group, kTinyLimits);
      for (const at::ScalarType dtype : kDtypes) {
        for (const std::vector<std::int64_t>& sizes :
             {std::vector<std::int64_t>{n}, {2 * n, 3}, {0, 3}, {3 * n, 5, 7}, {n, 0}}) {
          const at::Tensor block =
              group.reduce_scatter(rank_values(group.rank(), sizes, dtype))->wait();
          const std::int64_t rows = sizes[0] / n;
          EXPECT_TRUE(same_bits(
              block,
              serial_sum(group.num_ranks(), sizes, dtype).narrow(0, group.rank() * rows, rows)));
        }
      }
    }
  });
}

TEST_P(ProcessGroupContract, BroadcastFromEveryRoot) {
  GetParam().run([](ProcessGroup& group) {
    for (int root = 0; root < group.num_ranks(); ++root) {
      for (const std::int64_t count : {0, 1, 5, 20000}) {
        at::Tensor tensor = rank_values(group.rank(), {count}, at::kFloat);
        const at::Tensor result = group.broadcast(tensor, root)->wait();
        EXPECT_TRUE(result.is_same(tensor));
        EXPECT_TRUE(same_bits(tensor, rank_values(root, {count}, at::kFloat)));
      }
    }
  });
}

TEST_P(ProcessGroupContract, SendReceiveTurnsTheRingBothWays) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    for (int step = -n; step <= n; ++step) {
      const int to = (group.rank() + step + n) % n;
      const int from = (group.rank() - step + 2 * n) % n;
      for (const std::int64_t count : {0, 1, 7, 30000}) {
        const at::Tensor in =
            group.send_receive(rank_values(group.rank(), {count}, at::kDouble), to, from)->wait();
        EXPECT_TRUE(same_bits(in, rank_values(from, {count}, at::kDouble)));
      }
    }
  });
}

TEST_P(ProcessGroupContract, OneRankGetsItsInputBack) {
  GetParam().run([](ProcessGroup& group) {
    const at::Tensor rows = rank_values(group.rank(), {group.num_ranks(), 2}, at::kFloat);
    const bool is_alone = group.num_ranks() == 1;
    EXPECT_EQ(group.all_gather(rows)->wait().is_same(rows), is_alone);
    EXPECT_EQ(group.reduce_scatter(rows)->wait().is_same(rows), is_alone);
    EXPECT_EQ(group.send_receive(rows, group.rank(), group.rank())->wait().is_same(rows), is_alone);
    EXPECT_TRUE(group.all_reduce(rows, ReduceOp::kMax)->wait().is_same(rows));
    const at::Tensor elsewhere =
        at::empty({group.num_ranks()}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
    if (is_alone) {
      EXPECT_TRUE(group.all_gather(elsewhere)->wait().is_same(elsewhere));
    }
  });
}

TEST_P(ProcessGroupContract, WorkReportsBytesAndItsNumber) {
  GetParam().run([](ProcessGroup& group) {
    const auto first = group.all_reduce(at::zeros({3, 5}, at::kFloat), ReduceOp::kSum);
    EXPECT_EQ(first->bytes(), 60);
    group.barrier();
    const auto second = group.all_gather(at::zeros({2}, at::kBFloat16));
    EXPECT_EQ(second->bytes(), 4);
    EXPECT_EQ(second->sequence(), first->sequence() + 2);
    static_cast<void>(second->wait());
    EXPECT_TRUE(second->done());
  });
}

TEST_P(ProcessGroupContract, WorkKnowsWhenItBeganAndEndedByTheSteadyClock) {
  GetParam().run([](ProcessGroup& group) {
    const auto now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
    group.barrier();
    constexpr double kLateSeconds = 0.05;
    const int last = group.num_ranks() - 1;
    if (group.rank() == last)
      std::this_thread::sleep_for(std::chrono::duration<double>(kLateSeconds));
    const double before = now();
    const auto work = group.all_reduce(at::zeros({3}, at::kFloat), ReduceOp::kSum);
    static_cast<void>(work->wait());
    const double after = now();
    EXPECT_LE(before, work->start_seconds());
    EXPECT_LE(work->start_seconds(), work->end_seconds());
    EXPECT_LE(work->end_seconds(), after);
    if (group.rank() != last) {  // half: others may leave the barrier a little later than the last
      EXPECT_GE(work->end_seconds() - work->start_seconds(), kLateSeconds / 2);
    }
  });
}

TEST_P(ProcessGroupContract, SplitOrdersByKeyAndThePartsAreIndependent) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    const int color = group.rank() % 2;
    const auto part = group.split(color, -group.rank());  // the other way round
    std::vector<int> members;
    for (int r = n - 1; r >= 0; --r)
      if (r % 2 == color) members.push_back(r);
    ASSERT_EQ(part->num_ranks(), static_cast<int>(members.size()));
    EXPECT_EQ(members[static_cast<std::size_t>(part->rank())], group.rank());
    const at::Tensor all = part->all_gather(at::full({1}, group.rank(), at::kLong))->wait();
    for (std::size_t i = 0; i < members.size(); ++i)
      EXPECT_EQ(all[static_cast<std::int64_t>(i)].item<std::int64_t>(), members[i]);
    if (color == 0) part->barrier();  // the other part need not
    const auto same_keys = group.split(0, 7);
    EXPECT_EQ(same_keys->rank(), group.rank());
    const auto alone = same_keys->split(group.rank(), 0);
    EXPECT_EQ(alone->num_ranks(), 1);
    group.barrier();
  });
}

using Call = std::function<void(ProcessGroup&)>;

/// Every rank must get a CommError with all words, and the group must work afterwards.
void expect_refusal(ProcessGroup& group, const Call& call,
                    std::initializer_list<std::string> words) {
  expect_error<CommError>([&] { call(group); }, ExitCode::kCommunication, words);
  EXPECT_FALSE(dist::is_broken(group));
  const at::Tensor ranks = group.all_reduce(at::full({1}, 1, at::kLong), ReduceOp::kSum)->wait();
  EXPECT_EQ(ranks.item<std::int64_t>(), group.num_ranks());
}

TEST_P(ProcessGroupContract, WhatOneRankCannotTakePartInIsAnErrorOnAllThatNamesIt) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    const int bad = n - 1;
    const std::string who = n > 1 ? "rank " + std::to_string(bad) + ": " : "";
    const bool is_bad = group.rank() == bad;
    const at::Tensor good = at::zeros({2 * n, 3}, at::kFloat);
    const auto all_reduce = [&](const at::Tensor& tensor) {
      return [&, tensor](ProcessGroup& g) {
        static_cast<void>(g.all_reduce(is_bad ? tensor : good, ReduceOp::kSum));
      };
    };
    expect_refusal(group, all_reduce(at::zeros({3, 2 * n}, at::kFloat).t()),
                   {who + "all_reduce", "not contiguous"});
    expect_refusal(group, all_reduce(at::zeros({2}, at::kInt)), {who + "all_reduce", "dtype Int"});
    expect_refusal(group, all_reduce(at::Tensor()), {who + "all_reduce", "undefined"});
    expect_refusal(group,
                   [&](ProcessGroup& g) { static_cast<void>(g.broadcast(good, is_bad ? n : 0)); },
                   {who + "broadcast", "root"});
    expect_refusal(
        group,
        [&](ProcessGroup& g) { static_cast<void>(g.send_receive(good, is_bad ? -1 : 0, 0)); },
        {who + "send_receive", "-1"});
    expect_refusal(group,
                   [&](ProcessGroup& g) {
                     static_cast<void>(g.all_gather(is_bad ? at::zeros({}, at::kFloat) : good));
                   },
                   {who + "all_gather", "0-dim"});
    expect_refusal(group, [&](ProcessGroup& g) { static_cast<void>(g.split(is_bad ? -1 : 0, 0)); },
                   {who + "split", "color -1"});
    if (n == 1) return;
    const at::Tensor meta = at::empty({2 * n, 3}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
    expect_refusal(group, all_reduce(meta), {who + "all_reduce", "device 'meta'"});
    const at::Tensor odd = at::zeros({2 * n + 1}, at::kFloat);
    expect_refusal(
        group, [&](ProcessGroup& g) { static_cast<void>(g.reduce_scatter(is_bad ? odd : good)); },
        {who + "reduce_scatter", "cannot be divided"});
  });
}

TEST_P(ProcessGroupContract, DisagreementIsAnErrorOnAllRanksThatNamesRankOperationAndShape) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    if (n == 1) return;  // nobody to disagree with
    const int other = n - 1;
    const bool is_other = group.rank() == other;
    const std::string who = "rank " + std::to_string(other) + " called ";
    const at::Tensor ours = at::zeros({2 * n, 3}, at::kFloat);
    const auto differing = [&](const Call& normal, const Call& strange) {
      return is_other ? strange : normal;
    };
    const Call sum = [&](ProcessGroup& g) {
      static_cast<void>(g.all_reduce(ours, ReduceOp::kSum));
    };
    const auto sum_of = [](const at::Tensor& tensor) {
      return [tensor](ProcessGroup& g) { static_cast<void>(g.all_reduce(tensor, ReduceOp::kSum)); };
    };
    const std::string normal =
        "rank 0 called all_reduce(sum) of Float [" + std::to_string(2 * n) + ", 3]";
    expect_refusal(group, differing(sum, sum_of(at::zeros({3, 2 * n}, at::kFloat))),
                   {normal, who, "[3, "});
    expect_refusal(group, differing(sum, sum_of(at::zeros({5000}, at::kFloat))),
                   {normal, who, "[5000]"});
    expect_refusal(group, differing(sum, sum_of(at::zeros({2 * n, 3}, at::kDouble))),
                   {normal, who, "Double"});
    expect_refusal(
        group,
        differing(sum,
                  [&](ProcessGroup& g) { static_cast<void>(g.all_reduce(ours, ReduceOp::kMax)); }),
        {normal, who + "all_reduce(max)"});
    expect_refusal(group,
                   differing(sum, [&](ProcessGroup& g) { static_cast<void>(g.all_gather(ours)); }),
                   {normal, who + "all_gather"});
    expect_refusal(group, differing(sum, [](ProcessGroup& g) { g.barrier(); }),
                   {normal, who + "barrier"});
    expect_refusal(group, differing(sum, [](ProcessGroup& g) { static_cast<void>(g.split(0, 0)); }),
                   {normal, who + "split"});
    expect_refusal(group,
                   [&](ProcessGroup& g) { static_cast<void>(g.broadcast(ours, is_other ? 1 : 0)); },
                   {"broadcast from rank 0", who + "broadcast from rank 1"});
    expect_refusal(
        group,
        [&](ProcessGroup& g) { static_cast<void>(g.all_gather(at::zeros({is_other ? 2 : 1}))); },
        {"all_gather of Float [1]", who + "all_gather of Float [2]"});
    expect_refusal(group,
                   [](ProcessGroup& g) { static_cast<void>(g.send_receive(at::zeros({1}), 0, 0)); },
                   {"send_receive does not match"});
  });
}

}  // namespace
}  // namespace triphase::test
