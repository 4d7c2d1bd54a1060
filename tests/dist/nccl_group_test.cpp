// SPDX-License-Identifier: Apache-2.0
// The nccl backend on a fake table: start, errors, deadlines, ends. What a collective computes is in
// the contracts.
#include "dist/host_group.hpp"
#include "dist/process_group_nccl.hpp"
#include "dist/runtime.hpp"
#include "tests/dist/backends_nccl.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <chrono>

namespace triphase::test {
namespace {

using dist::ProcessGroup;
using dist::ReduceOp;

constexpr double kDeadline = 0.2;

at::Tensor sum_ones(ProcessGroup& group) {
  return group.all_reduce(at::full({3}, 1, at::kFloat), ReduceOp::kSum)->wait();
}

/// Expects an ordinary end of `num` communicators.
void expect_good_end(const FakeNccl& fake, int num) {
  EXPECT_EQ(fake.misuse(), "");
  EXPECT_EQ(fake.counts().inits, num);
  EXPECT_EQ(fake.counts().finalizes, num);
  EXPECT_EQ(fake.counts().destroys, num);
  EXPECT_EQ(fake.counts().aborts, 0);
  EXPECT_EQ(fake.counts().events, 0);
}

/// Expects that each of `num` communicators was aborted once and not used after it.
void expect_aborts(const FakeNccl& fake, int num) {
  EXPECT_EQ(fake.misuse(), "");
  EXPECT_EQ(fake.counts().aborts, num);
  EXPECT_EQ(fake.counts().destroys, 0);
}

TEST(NcclGroup, TheCommunicatorIsAskedUntilItStands) {
  for (const int polls : {0, 1, 200}) {
    FakeNccl fake({.init_polls = polls});
    run_on_fake(fake, 3, [](ProcessGroup& group) {
      EXPECT_EQ(group.backend(), "nccl");
      EXPECT_EQ(sum_ones(group)[0].item<float>(), 3);
    });
    expect_good_end(fake, 3);
    EXPECT_EQ(fake.counts().unique_ids, 1);  // the fake lets ranks with other ids never meet
  }
}

TEST(NcclGroup, AnIdThatRankZeroCannotGetIsAnErrorOnAll) {
  FakeNccl fake({.unique_id_result = 2});
  run_on_threads(3, [&](ProcessGroup& host) {
    expect_error<CommError>([&] { static_cast<void>(make_nccl_group(host.split(0, 0), fake.setup())); },
                            ExitCode::kCommunication, {"rank 0 got no id", "unhandled system error"});
  });
  EXPECT_EQ(fake.counts().inits, 0);
}

TEST(NcclGroup, ACommunicatorThatNeverStandsEndsAtTheDeadline) {
  FakeNccl fake({.never_connects = true});
  run_on_threads(2, [&](ProcessGroup& host) {
    const std::string who = str("on rank ", host.rank(), " of 2, GPU 0");
    expect_error<CommError>(
        [&] { static_cast<void>(make_nccl_group(host.split(0, 0), fake.setup(kDeadline))); },
        ExitCode::kTimeout, {"start of a communicator", who, "distributed.timeout_seconds"});
  });
  expect_aborts(fake, 2);
}

TEST(NcclGroup, AStartThatFailsOnOneRankSaysSoInNcclsWords) {
  FakeNccl fake({.init_result = 2, .faulty_rank = 1});
  run_on_threads(2, [&](ProcessGroup& host) {
    const bool is_faulty = host.rank() == 1;
    expect_error<CommError>(
        [&] { static_cast<void>(make_nccl_group(host.split(0, 0), fake.setup(kDeadline))); },
        is_faulty ? ExitCode::kCommunication : ExitCode::kTimeout,
        {"start of a communicator",
         is_faulty ? "unhandled system error (the fake's last words)" : "not taken in"});
  });
  expect_aborts(fake, 1);  // the faulty one never was
}

TEST(NcclGroup, AnAsynchronousErrorIsNamedAndAbortsOnce) {
  FakeNccl fake({.call_polls = 0, .error_at = 2});
  run_on_fake(fake, 3, [](ProcessGroup& group) {
    for (int i = 0; i < 2; ++i) EXPECT_EQ(sum_ones(group)[0].item<float>(), 3);
    const auto failing = group.all_reduce(at::zeros({5}, at::kDouble), ReduceOp::kSum);
    const auto behind = group.all_gather(at::zeros({1}));
    const std::initializer_list<std::string> words{
        "all_reduce(sum) of Double [5], 40 bytes", str("on rank ", group.rank(), " of 3"),
        "remote process exited", "collective 2 of 3 ranks"};
    for (int i = 0; i < 2; ++i)
      expect_error<CommError>([&] { static_cast<void>(failing->wait()); },
                              ExitCode::kCommunication, words);
    EXPECT_TRUE(dist::is_broken(group));
    EXPECT_TRUE(behind->done());
    expect_error<CommError>([&] { static_cast<void>(behind->wait()); }, ExitCode::kCommunication,
                            {"remote process exited", "all_gather", "collective 3"});
    expect_error<CommError>([&] { sum_ones(group); }, ExitCode::kCommunication,
                            {"cannot be used after an earlier failure", "40 bytes"});
    const auto entries = dist::rank_record(group).entries();
    ASSERT_EQ(entries.size(), 5);  // after the split
    EXPECT_FALSE(entries[2].has_failed);
    EXPECT_GT(entries[2].end_seconds, entries[2].start_seconds);
    EXPECT_TRUE(entries[3].has_failed);
    EXPECT_TRUE(entries[4].has_failed);
  });
  expect_aborts(fake, 3);
}

TEST(NcclGroup, AnErrorThatIsThereWhenACallIsTakenInIsThrownByTheCall) {
  FakeNccl fake({.call_polls = 5, .error_at = 0});
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    expect_error<CommError>(
        [&] { static_cast<void>(group.all_reduce(at::zeros({3}), ReduceOp::kSum)); },
        ExitCode::kCommunication, {"all_reduce(sum) of Float [3], 12 bytes", "remote process"});
    EXPECT_TRUE(dist::is_broken(group));
  });
  expect_aborts(fake, 2);
}

TEST(NcclGroup, AnErrorIsSeenByThoseWhoOnlyAskWhetherItIsDone) {
  FakeNccl fake({.call_polls = 0, .error_at = 0});
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    const auto work = group.all_reduce(at::zeros({3}), ReduceOp::kSum);
    EXPECT_TRUE(work->done());
    EXPECT_THROW(static_cast<void>(work->wait()), CommError);
  });
}

TEST(NcclGroup, AnErrorOfCudaIsOneOfTheGroup) {
  FakeNccl fake({.cuda_error_at = 0});
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    expect_error<CommError>([&] { sum_ones(group); }, ExitCode::kCommunication,
                            {"CUDA: all_reduce(sum) of Float [3]", "illegal memory access"});
    EXPECT_TRUE(dist::is_broken(group));
  });
  expect_aborts(fake, 2);
}

// The others may never come to their end.
TEST(NcclGroup, ARankThatThrowsDoesNotWaitForTheOthers) {
  FakeNccl fake;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(run_on_fake(fake, 2,
                           [](ProcessGroup& group) {
                             sum_ones(group);
                             throw DataError("cut short");
                           }),
               DataError);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  expect_aborts(fake, 2);
}

TEST(NcclGroup, AnErrorOfOneRankLeavesTheOthersToTheDeadline) {
  FakeNccl fake({.faulty_rank = 0, .error_at = 0});
  run_on_fake(
      fake, 2,
      [](ProcessGroup& group) {
        expect_error<CommError>([&] { sum_ones(group); },
                                group.rank() == 0 ? ExitCode::kCommunication : ExitCode::kTimeout,
                                {"all_reduce(sum) of Float [3], 12 bytes"});
      },
      kDeadline);
  expect_aborts(fake, 2);
}

TEST(NcclGroup, WhatDoesNotEndIsEndedAtTheDeadlineByName) {
  const std::vector<std::pair<std::string, std::function<dist::WorkPtr(ProcessGroup&)>>> operations{
      {"all_reduce(sum) of Float [4], 16 bytes",
       [](ProcessGroup& g) { return g.all_reduce(at::zeros({4}), ReduceOp::kSum); }},
      {"all_reduce(max) of Float [4], 16 bytes",
       [](ProcessGroup& g) { return g.all_reduce(at::zeros({4}), ReduceOp::kMax); }},
      {"all_gather of Float [4], 16 bytes", [](ProcessGroup& g) { return g.all_gather(at::zeros({4})); }},
      {"reduce_scatter of BFloat16 [4], 8 bytes",
       [](ProcessGroup& g) { return g.reduce_scatter(at::zeros({4}, at::kBFloat16)); }},
      {"broadcast from rank 1 of Float [4], 16 bytes",
       [](ProcessGroup& g) { return g.broadcast(at::zeros({4}), 1); }},
      {"send_receive of Float [4], 16 bytes",
       [](ProcessGroup& g) { return g.send_receive(at::zeros({4}), 1 - g.rank(), 1 - g.rank()); }}};
  for (const auto& [name, start] : operations) {
    FakeNccl fake({.hang_at = 0});
    const auto begin = std::chrono::steady_clock::now();
    run_on_fake(
        fake, 2,
        [&](ProcessGroup& group) {
          const auto work = start(group);
          EXPECT_FALSE(work->done());
          expect_error<CommError>([&] { static_cast<void>(work->wait()); }, ExitCode::kTimeout,
                                  {name, str("on rank ", group.rank(), " of 2"), "did not end within",
                                   "collective 0"});
          expect_error<CommError>([&] { sum_ones(group); }, ExitCode::kTimeout, {name});
        },
        kDeadline);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    EXPECT_GE(took.count(), kDeadline);
    expect_aborts(fake, 2);
  }
}

TEST(NcclGroup, ARankThatDoesNotComeIsNamedBeforeNcclIsAsked) {
  FakeNccl fake;
  run_on_fake(
      fake, 3,
      [&](ProcessGroup& group) {
        if (group.rank() == 1) {
          std::this_thread::sleep_for(std::chrono::duration<double>(3 * kDeadline));
          return;
        }
        expect_error<CommError>([&] { sum_ones(group); }, ExitCode::kTimeout, {"rank 1"});
      },
      kDeadline);
  EXPECT_EQ(fake.counts().collectives, 0);
}

// NCCL's own abort has been seen to hang. Then the error must come all the same.
TEST(NcclGroup, AnAbortThatHangsHoldsNobody) {
  FakeNccl fake({.error_at = 0, .abort_hangs = true});
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    expect_error<CommError>([&] { sum_ones(group); }, ExitCode::kCommunication, {"remote process"});
  });
  EXPECT_EQ(fake.counts().aborts, 2);
}

TEST(NcclGroup, SeveralOnTheirWayMayBeWaitedForInAnyOrderOrNotAtAll) {
  FakeNccl fake;
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    std::vector<dist::WorkPtr> works;
    for (int i = 0; i < 4; ++i)
      works.push_back(group.all_reduce(at::full({2}, i, at::kLong), ReduceOp::kSum));
    static_cast<void>(group.all_gather(at::zeros({1000})));  // its memory stays until it is over
    for (int i = 3; i >= 0; --i)
      EXPECT_EQ(works[static_cast<std::size_t>(i)]->wait()[1].item<std::int64_t>(), 2 * i);
    group.barrier();
  });
  expect_good_end(fake, 2);
}

TEST(NcclGroup, WhatIsWrittenInPlaceTellsAutograd) {
  FakeNccl fake;
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    const at::Tensor tensor = at::zeros({3});
    const auto version = [&] {
      return tensor.unsafeGetTensorImpl()->version_counter().current_version();
    };
    auto before = version();
    static_cast<void>(group.all_reduce(tensor, ReduceOp::kSum)->wait());
    EXPECT_GT(version(), before);
    before = version();
    static_cast<void>(group.broadcast(tensor, 1)->wait());
    EXPECT_EQ(version() > before, group.rank() == 0);
  });
}

TEST(NcclGroup, AWorkMayOutliveItsGroup) {
  FakeNccl fake;
  run_on_threads(2, [&](ProcessGroup& host) {
    auto group = make_nccl_group(host.split(0, host.rank()), fake.setup());
    const auto work = group->all_reduce(at::full({1}, 1, at::kLong), ReduceOp::kSum);
    group.reset();
    EXPECT_EQ(work->wait().item<std::int64_t>(), 2);
  });
  expect_good_end(fake, 2);
}

TEST(NcclGroup, PartsConnectAtTheirFirstCollective) {
  FakeNccl fake;
  run_on_fake(fake, 3, [&](ProcessGroup& group) {
    const auto unused = group.split(0, group.rank());
    const auto part = group.split(group.rank() / 2, group.rank());
    EXPECT_EQ(part->backend(), "nccl");
    group.barrier();
    EXPECT_EQ(fake.counts().inits, 3);
    group.barrier();
    EXPECT_EQ(sum_ones(*part)[0].item<float>(), group.rank() < 2 ? 2 : 1);
  });
  expect_good_end(fake, 5);
}

TEST(NcclGroup, ANewTimeoutHoldsForTheGroupAndItsParts) {
  FakeNccl fake({.hang_at = 0});
  run_on_fake(fake, 2, [](ProcessGroup& group) {
    const auto part = group.split(0, group.rank());
    dist::set_timeout(group, kDeadline);
    const auto begin = std::chrono::steady_clock::now();
    expect_error<CommError>([&] { sum_ones(*part); }, ExitCode::kTimeout, {"did not end within"});
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
    EXPECT_FALSE(dist::is_broken(group));
  });
}

TEST(NcclGroup, HostTensorsGoTheHostsWay) {
  FakeNccl fake;
  run_on_threads(2, [&](ProcessGroup& host) {
    dist::NcclSetup setup = fake.setup();
    setup.device = at::Device(at::kMeta);  // not the host
    const auto group = make_nccl_group(host.split(0, host.rank()), setup);
    EXPECT_EQ(sum_ones(*group)[0].item<float>(), 2);
    dist::agree(*group, std::nullopt);
    EXPECT_FALSE(dist::allows_threads(*group));
    const at::Tensor elsewhere = at::empty({3}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
    expect_error<CommError>(
        [&] {
          const at::Tensor mine = group->rank() == 0 ? at::zeros({3}) : elsewhere;
          static_cast<void>(group->all_reduce(mine, ReduceOp::kSum));
        },
        ExitCode::kCommunication,
        {"rank 0 called all_reduce(sum) of Float [3],", "rank 1 called all_reduce(sum) of Float [3] on meta"});
  });
  EXPECT_EQ(fake.counts().collectives, 0);
}

std::optional<std::string> no_variables(const char* /*name*/) { return std::nullopt; }

TEST(ChooseGpu, GivesEachRankOfAHostItsOwn) {
  const FakeNccl fake;
  run_on_threads(3, [&](ProcessGroup& group) {
    EXPECT_EQ(dist::choose_gpu(group, fake.cuda(), no_variables), group.rank());
  });
  const FakeNccl bound({.has_own_gpus = true});  // as a batch system binds them: each sees one
  run_on_threads(3, [&](ProcessGroup& group) {
    EXPECT_EQ(dist::choose_gpu(group, bound.cuda(), no_variables), 0);
  });
}

TEST(ChooseGpu, MoreRanksThanGpusAreRefusedUnlessAllowed) {
  const FakeNccl fake({.num_gpus = 2});
  run_on_threads(3, [&](ProcessGroup& group) {
    expect_error<CommError>(
        [&] { static_cast<void>(dist::choose_gpu(group, fake.cuda(), no_variables)); },
        ExitCode::kCommunication,
        {"3 ranks on this host", "local ranks 0 and 2 would share GPU 0000:00:00.0",
         "NCCL_MULTI_RANK_GPU_ENABLE=1"});
    for (const std::string allowed : {"NCCL_MULTI_RANK_GPU_ENABLE", "NCCL_HOSTID"}) {
      const auto environment = [&](const char* name) {
        return name == allowed ? std::optional<std::string>("1") : std::nullopt;
      };
      EXPECT_EQ(dist::choose_gpu(group, fake.cuda(), environment), group.rank() % 2);
    }
  });
}

TEST(ChooseGpu, ARankWithoutOneIsNamed) {
  const FakeNccl fake({.num_gpus = 0});
  run_on_threads(2, [&](ProcessGroup& group) {
    expect_error<CommError>(
        [&] { static_cast<void>(dist::choose_gpu(group, fake.cuda(), no_variables)); },
        ExitCode::kCommunication, {"local rank 0 has no GPU: no CUDA-capable device"});
  });
}

}  // namespace
}  // namespace triphase::test
