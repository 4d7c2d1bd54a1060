// SPDX-License-Identifier: Apache-2.0
#include "base/parallel.hpp"
#include "tests/support/test_support.hpp"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <map>
#include <thread>
#include <vector>

namespace triphase {
namespace {

using test::expect_error;
using test::TemporaryFolder;

TEST(ParallelFor, CallsEachIndexOnceForEveryCountAndNumberOfThreads) {
  for (int num_threads = 1; num_threads <= 8; ++num_threads) {
    for (const std::int64_t count : {0, 1, 2, 7, 8, 9, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
      parallel_for(count, num_threads,
                   [&](std::int64_t i) { ++calls.at(static_cast<std::size_t>(i)); });
      for (const auto& times : calls) ASSERT_EQ(times, 1) << num_threads << " threads, " << count;
    }
  }
}

TEST(ParallelFor, OneThreadIsTheCallersAndKeepsTheOrder) {
  std::vector<std::int64_t> order;
  const std::thread::id caller = std::this_thread::get_id();
  parallel_for(5, 1, [&](std::int64_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(i);
  });
  EXPECT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
}

TEST(ParallelFor, WorksOnSeveralThreadsAtOnce) {
  // Each body waits until all three have begun: that ends only when three threads are at work.
  std::atomic<int> begun = 0;
  parallel_for(3, 3, [&](std::int64_t) {
    ++begun;
    while (begun < 3) std::this_thread::yield();
  });
  EXPECT_EQ(begun, 3);
}

TEST(ParallelFor, ThrowsTheFirstExceptionAndEndsTheLoop) {
  for (int num_threads = 1; num_threads <= 8; ++num_threads) {
    std::atomic<std::int64_t> calls = 0;
    // Long bodies: a thread that is put aside in the middle of its throw must not find the loop done.
    constexpr std::int64_t kCount = 20000;
    expect_error<DataError>(
        [&] {
          parallel_for(kCount, num_threads, [&](std::int64_t i) {
            ++calls;
            TRIPHASE_CHECK(DataError, i != 3, "sample ", i, " is bad");
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          });
        },
        ExitCode::kBadData, {"sample 3 is bad"});
    EXPECT_LT(calls, kCount) << "the loop went on after the error";
  }
}

TEST(ParallelFor, AllThreadsMayThrowAndOneErrorArrives) {
  expect_error<DataError>(
      [] { parallel_for(100, 8, [](std::int64_t) { throw DataError("bad"); }); },
      ExitCode::kBadData, {"bad"});
}

TEST(ParallelFor, RefusesNoThreads) {
  for (const int num_threads : {0, -1})
    expect_error<InternalError>([&] { parallel_for(1, num_threads, [](std::int64_t) {}); },
                                ExitCode::kInternal, {"at least 1 thread"});
}

TEST(AvailableCores, IsAtLeastOneAndNoMoreThanTheMachineHas) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), static_cast<int>(std::thread::hardware_concurrency()));
}

TEST(AvailableCores, FollowsTheAffinityMask) {
  std::jthread([] {
    cpu_set_t all;
    ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    std::size_t first = 0;
    while (!CPU_ISSET(first, &all)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(available_cores(), 1);
  }).join();
}

std::optional<int> cores_with(const std::string& membership,
                              const std::map<std::string, std::string>& limits) {
  const TemporaryFolder folder;
  test::write_text(folder / "membership", membership);
  for (const auto& [group, limit] : limits) {
    std::filesystem::create_directories(folder.path() / group);
    test::write_text(folder.path() / group / "cpu.max", limit);
  }
  return cgroup_cores(folder / "membership", folder.path());
}

TEST(CgroupCores, TakesTheStrictestLimitOfTheGroupAndItsParents) {
  EXPECT_EQ(cores_with("0::/\n", {{"", "400000 100000\n"}}), 4);
  EXPECT_EQ(cores_with("0::/job/step\n", {{"job/step", "max 100000"}, {"job", "200000 100000"}}),
            2);
  EXPECT_EQ(cores_with("0::/job/step\n", {{"job/step", "300000 100000"}, {"job", "500000 100000"}}),
            3);
}

TEST(CgroupCores, RoundsDownButNotToZero) {
  EXPECT_EQ(cores_with("0::/\n", {{"", "250000 100000"}}), 2);
  EXPECT_EQ(cores_with("0::/\n", {{"", "20000 100000"}}), 1);
}

TEST(CgroupCores, SaysNothingWhereThereIsNoLimitOrNoSense) {
  EXPECT_EQ(cores_with("0::/job\n", {{"job", "max 100000\n"}}), std::nullopt);
  EXPECT_EQ(cores_with("0::/job\n", {}), std::nullopt);
  EXPECT_EQ(cores_with("12:cpu:/job\n", {{"job", "100000 100000"}}), std::nullopt);
  EXPECT_EQ(cores_with("", {{"", "100000 100000"}}), std::nullopt);
  EXPECT_EQ(cores_with("0::/\n", {{"", "-5 0"}}), std::nullopt);
  EXPECT_EQ(cgroup_cores("/nonexistent/a", "/nonexistent/b"), std::nullopt);
}

}  // namespace
}  // namespace triphase
