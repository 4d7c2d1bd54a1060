// SPDX-License-Identifier: Apache-2.0
#include "dist/gradient_reducer.hpp"
#include "dist/host_group.hpp"
#include "dist/runtime.hpp"
#include "dist/spare_cores.hpp"
#include "tests/dist/backends.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/zeros.h>

#include <atomic>
#include <latch>
#include <thread>

namespace triphase::test {
namespace {

using dist::ProcessGroup;
using dist::ReduceOp;

void sum_something(ProcessGroup& group) {
  static_cast<void>(group.all_reduce(at::zeros({3}), ReduceOp::kSum));
}

TEST(ThreadGroup, OfManyRanksThatDisagreeSomeAreNamedAndTheOthersCounted) {
  for (const int num_ranks : {5, 6, 8})
    run_on_threads(num_ranks, [&](ProcessGroup& group) {
      try {
        dist::agree_equal(group, group.rank() == 0 ? "a" : "b", "a letter");
        ADD_FAILURE() << "nothing was thrown";
      } catch (const dist::AgreedError& error) {
        const std::string& message = error.message();
        EXPECT_NE(message.find("rank 4 has 'b'"), std::string::npos) << message;
        EXPECT_EQ(message.find("rank 5 has"), std::string::npos) << message;
        EXPECT_EQ(message.find(str(" and ", num_ranks - 5, " more")) != std::string::npos,
                  num_ranks > 5)
            << message;
      }
    });
}

TEST(ThreadGroup, ARankThatNeverComesIsNamedAfterTheTimeout) {
  std::latch others_gave_up(2);
  run_on_threads(
      3,
      [&](ProcessGroup& group) {
        if (group.rank() == 1) {
          others_gave_up.wait();
          expect_error<CommError>([&] { sum_something(group); }, ExitCode::kTimeout, {"rank 1"});
          return;
        }
        expect_error<CommError>(
            [&] { sum_something(group); }, ExitCode::kTimeout,
            {"waited 0.2 s", "rank 1", "all_reduce(sum) of Float [3]", "collective 0"});
        EXPECT_TRUE(dist::is_broken(group));
        others_gave_up.count_down();
        expect_error<CommError>([&] { sum_something(group); }, ExitCode::kTimeout,
                                {"cannot be used"});
      },
      0.2);
}

TEST(ThreadGroup, ARankThatThrowsMakesTheOthersThrow) {
  std::atomic<int> num_told{0};
  const auto body = [&](ProcessGroup& group) {
    if (group.rank() == 2) throw DataError("cut short");
    try {
      sum_something(group);
    } catch (const CommError& error) {
      EXPECT_NE(std::string(error.what()).find("rank 2 left"), std::string::npos) << error.what();
      ++num_told;
    }
  };
  EXPECT_THROW(run_on_threads(3, body), DataError);
  EXPECT_EQ(num_told, 2);
}

TEST(ThreadGroup, NobodyPassesABarrierBeforeAllHaveCome) {
  constexpr int kRounds = 200;
  std::atomic<int> num_come{0};
  run_on_threads(4, [&](ProcessGroup& group) {
    for (int round = 1; round <= kRounds; ++round) {
      ++num_come;
      group.barrier();
      EXPECT_GE(num_come, 4 * round);
      group.barrier();
    }
  });
}

TEST(ThreadGroup, ANewTimeoutHoldsForTheGroupAndForItsParts) {
  for (const bool in_part : {false, true}) {
    std::latch gave_up(1);
    run_on_threads(2, [&](ProcessGroup& group) {
      const auto part = group.split(0, 0);
      dist::set_timeout(group, 0.125);
      group.barrier();  // both have set it
      ProcessGroup& used = in_part ? *part : group;
      if (group.rank() == 1) {
        gave_up.wait();
        return;
      }
      expect_error<CommError>([&] { sum_something(used); }, ExitCode::kTimeout,
                              {"waited 0.125 s", "rank 1"});
      EXPECT_EQ(dist::is_broken(group), !in_part);
      gave_up.count_down();
    });
  }
}

TEST(ThreadGroup, NeedsARank) {
  expect_error<CommError>([] { static_cast<void>(dist::make_thread_groups(0)); },
                          ExitCode::kCommunication, {"0"});
}

dist::GradientReducerOptions on_a_thread() { return {.overlap = dist::Overlap::kOn}; }

TEST(ReduceThread, WhatAReductionThrowsIsThrownByReduceInItsKind) {
  std::latch others_have_ended(2);
  run_on_threads(3, [&](ProcessGroup& group) {
    const at::Tensor weight = at::zeros({3}).requires_grad_();
    {
      dist::GradientReducer reducer(group, {{"weight", weight}}, on_a_thread());
      if (group.rank() == 1) return others_have_ended.wait();  // and never comes to reduce()
      if (group.rank() == 2) return others_have_ended.count_down();  // takes its reducer along
      expect_error<CommError>([&] { static_cast<void>(reducer.reduce()); },
                              ExitCode::kCommunication, {"rank 2", "left the group"});
    }
    others_have_ended.count_down();
  });
}

// It would wait for ever: the other rank reduces nothing until this one's reducer has gone.
TEST(ReduceThread, AReductionThatNobodyJoinsIsLeftBehind) {
  std::latch is_gone(1);
  run_on_threads(
      2,
      [&](ProcessGroup& group) {
        auto own = group.split(0, group.rank());
        if (group.rank() == 1) return is_gone.wait();
        auto queue = std::make_unique<dist::ReduceQueue>(
            std::move(own), std::vector<at::Tensor>{at::zeros({3})}, dist::ReduceQueueOptions{});
        queue->send(0, 0);
        while (queue->log()[0].sent_seconds == 0) std::this_thread::yield();
        queue.reset();
        is_gone.count_down();
      },
      /*timeout_seconds=*/1e6);
}

TEST(SpareCpus, EachRankNeedsOneMoreThanItsThreadsOfItsOwnAndOfAll) {
  const auto rank = [](const std::string& cpus, int threads) {
    return dist::RankCpus{std::bitset<dist::kMostCpus>(cpus), threads};
  };
  EXPECT_TRUE(dist::has_spare_cpu({rank("11", 1)}));
  EXPECT_FALSE(dist::has_spare_cpu({rank("11", 2)}));
  EXPECT_FALSE(dist::has_spare_cpu({rank("11", 1), rank("11", 1)}));    // shared by both
  EXPECT_TRUE(dist::has_spare_cpu({rank("1111", 1), rank("1111", 1)}));
  EXPECT_TRUE(dist::has_spare_cpu({rank("0011", 1), rank("1100", 1)}));
  EXPECT_FALSE(dist::has_spare_cpu({rank("0001", 1), rank("1110", 1)}));  // bound to one core
  EXPECT_FALSE(dist::has_spare_cpu({rank("1111", 1), rank("1111", 2)}));
  EXPECT_FALSE(dist::has_spare_cpu({rank("0", 1)}));  // the host does not tell
}

}  // namespace
}  // namespace triphase::test
