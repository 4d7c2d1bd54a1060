// SPDX-License-Identifier: Apache-2.0
#include "dist/collective_call.hpp"
#include "dist/collective_place.hpp"
#include "dist/host_group.hpp"
#include "dist/rank_record.hpp"
#include "tests/dist/backends.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/zeros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>

namespace triphase::test {
namespace {

using dist::CollectiveEntry;
using dist::CollectivePlace;
using dist::ProcessGroup;
using dist::RankRecord;

dist::CollectiveCall barrier_call() { return {}; }

TEST(RankRecord, KeepsTheLastCollectivesOfAllGroupsInOrder) {
  run_on_threads(2, [](ProcessGroup& group) {
    const auto part = group.split(0, 0);
    for (int i = 0; i < 50; ++i) {
      group.barrier();
      static_cast<void>(part->all_reduce(at::zeros({3}), dist::ReduceOp::kSum));
    }
    const auto entries = dist::rank_record(group).entries();
    ASSERT_EQ(entries.size(), RankRecord::kNumEntries);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const CollectiveEntry& entry = entries[i];
      const bool is_sum = i % 2 == 1;
      EXPECT_EQ(entry.operation,
                static_cast<int>(is_sum ? dist::Operation::kAllReduceSum : dist::Operation::kBarrier));
      EXPECT_EQ(entry.bytes, is_sum ? 12 : 0);
      EXPECT_EQ(entry.dtype, is_sum ? static_cast<int>(at::kFloat) : -1);
      EXPECT_EQ(entry.sequence, static_cast<std::int64_t>(18 + i / 2) + (is_sum ? 0 : 1));
      EXPECT_EQ(entry.num_ranks, 2);
      EXPECT_GE(entry.end_seconds, entry.start_seconds);
      EXPECT_TRUE(i == 0 || entry.start_seconds >= entries[i - 1].end_seconds);
    }
    EXPECT_EQ(dist::rank_record(*part).entries(1)[0].sequence, 49);  // one record for both
  });
}

TEST(RankRecord, SaysWhereAndAtWhichStepAndWhetherItFailed) {
  run_on_threads(2, [](ProcessGroup& group) {
    const CollectivePlace step("train: step", 12);
    {
      const CollectivePlace loss("train: loss");
      group.barrier();
    }
    try {
      static_cast<void>(group.all_gather(at::zeros({group.rank() + 1})));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const CommError& error) {
      EXPECT_NE(std::string(error.what()).find("at train: step, step 12"), std::string::npos)
          << error.what();
    }
    const auto entries = dist::rank_record(group).entries(2);
    EXPECT_EQ(entries[0].place, "train: loss");
    EXPECT_EQ(entries[0].step, 12);
    EXPECT_FALSE(entries[0].has_failed);
    EXPECT_EQ(entries[1].place, "train: step");
    EXPECT_TRUE(entries[1].has_failed);
    EXPECT_NE(entries[1].text(0).find("all_gather of "), std::string::npos);
    EXPECT_NE(entries[1].text(0).find("failed after"), std::string::npos);
  });
}

TEST(RankRecord, APlaceBelongsToItsThreadAndALongOneIsCut) {
  const CollectivePlace here("here");
  std::thread([] { EXPECT_EQ(CollectivePlace::current(), nullptr); }).join();
  RankRecord record;
  const std::string label(100, 'x');
  const CollectivePlace place(label.c_str());
  record.end(record.begin(barrier_call(), 0, 1), false);
  EXPECT_EQ(record.entries()[0].place, label.substr(0, 48));
}

TEST(RankRecord, AWaitingCollectiveShowsSinceWhen) {
  RankRecord record;
  static_cast<void>(record.begin(barrier_call(), 7, 3));
  const CollectiveEntry entry = record.entries().at(0);
  EXPECT_EQ(entry.text(entry.start_seconds + 1.5), "#7 barrier among 3 ranks, waiting since 1.500 s");
}

TEST(RankRecord, ThreadsWriteWhileAnotherReadsAndNoEntryIsMixed) {
  constexpr std::size_t kWriters = 3;
  constexpr std::int64_t kMostRead = 20000;
  RankRecord record;
  std::atomic<bool> is_over{false};
  std::int64_t num_read = 0;
  {
    std::vector<std::jthread> writers;
    for (std::size_t w = 0; w < kWriters; ++w)
      writers.emplace_back([&, w] {
        const std::string label(10 + w, static_cast<char>('a' + w));
        const auto step = static_cast<std::int64_t>(w);
        for (std::int64_t i = 0; !is_over; ++i) {
          const CollectivePlace place(label.c_str(), step);
          record.end(record.begin(barrier_call(), 3 * i + step, static_cast<int>(w) + 1), false);
        }
      });
    while (num_read < kMostRead && !HasFailure())
      for (const CollectiveEntry& entry : record.entries()) {
        ++num_read;
        const auto w = static_cast<std::size_t>(entry.step);
        if (w >= kWriters) {
          ADD_FAILURE() << entry.step;
          break;
        }
        EXPECT_EQ(entry.sequence % 3, entry.step);
        EXPECT_EQ(entry.num_ranks, entry.step + 1);
        EXPECT_EQ(entry.place, std::string(10 + w, static_cast<char>('a' + w)));
      }
    is_over = true;
  }
  EXPECT_EQ(record.entries().size(), RankRecord::kNumEntries);
}

TEST(RankRecord, GoesToTheLogFile) {
  const TemporaryFolder folder;
  RankRecord record;
  record.set_rank(2, 3);
  record.set_log_file(folder / "rank-00002.log");
  record.end(record.begin(barrier_call(), 41, 3), false);
  record.write_to_log("CommError: waited", "of another rank\n");
  const std::string text = read_text(folder / "rank-00002.log");
  for (const std::string words : {"CommError: waited", "of rank 2 of 3", "#41 barrier", "of another"})
    EXPECT_NE(text.find(words), std::string::npos) << text;
}

TEST(SharedRecord, OfAStoppedProcessIsReadAndOfOneThatIsGoneIsNot) {
  const dist::SharedRecord shared = dist::make_shared_record();
  ASSERT_GE(shared.descriptor, 0);
  shared.record->set_job(77);
  const pid_t child = fork();
  if (child == 0) {
    shared.record->end(shared.record->begin(barrier_call(), 5, 2), false);
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  const auto seen = dist::open_record(child, shared.descriptor, 77);
  ASSERT_NE(seen, nullptr);
  EXPECT_EQ(seen->entries().at(0).sequence, 5);
  EXPECT_EQ(dist::open_record(child, shared.descriptor, 78), nullptr) << "another job's";
  EXPECT_EQ(dist::open_record(child, 0, 77), nullptr) << "no record";
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(dist::open_record(child, shared.descriptor, 77), nullptr);
}

}  // namespace
}  // namespace triphase::test
