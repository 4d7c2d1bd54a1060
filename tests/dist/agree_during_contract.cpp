// SPDX-License-Identifier: Apache-2.0
// Agreement on the way through long work, on every backend.
#include "base/parallel.hpp"
#include "dist/agree_during.hpp"
#include "dist/host_group.hpp"
#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"
#include "tests/support/test_support.hpp"

#include <atomic>
#include <chrono>
#include <thread>

namespace triphase::test {
namespace {

using dist::agree_during;
using dist::AgreedError;
using dist::ProcessGroup;
using AfterPiece = std::function<void()>;

TRIPHASE_CONTRACT(AgreeDuringContract);

void sleep_seconds(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// The group is in step and can be used on.
void expect_in_step(ProcessGroup& group) {
  EXPECT_TRUE(dist::any_rank(group, group.rank() == group.num_ranks() - 1));
}

TEST_P(AgreeDuringContract, RanksWithDifferentNumbersOfPiecesEndTogether) {
  GetParam().run([](ProcessGroup& group) {
    for (const double round_seconds : {0.0, 0.001, 1000.0}) {
      for (const int more : {0, 1, 7}) {
        const int num_pieces = more * group.rank();  // rank 0 has none
        int done = 0;
        agree_during(group, round_seconds, [&](const AfterPiece& after_piece) {
          for (int i = 0; i < num_pieces; ++i) {
            ++done;
            after_piece();
          }
        });
        EXPECT_EQ(done, num_pieces);
        expect_in_step(group);
      }
    }
  });
}

TEST_P(AgreeDuringContract, WorkThatIsLongerThanTheTimeoutIsWaitedFor) {
  GetParam().run([](ProcessGroup& group) {
    if (group.num_ranks() == 1) return;  // nobody waits
    constexpr double kTimeout = 1.5;     // pieces and rounds are 15 times shorter
    dist::set_timeout(group, kTimeout);
    group.barrier();
    agree_during(group, 0.1, [&](const AfterPiece& after_piece) {
      if (group.rank() != group.num_ranks() - 1) return;
      for (int i = 0; i < 20; ++i) {
        sleep_seconds(0.1);
        after_piece();
      }
    });
    expect_in_step(group);
  });
}

TEST_P(AgreeDuringContract, AnErrorOnOneRankEndsAllAtTheNextMeeting) {
  GetParam().run([](ProcessGroup& group) {
    const int n = group.num_ranks();
    for (int failing = 0; failing < n; ++failing) {
      int done = 0;
      try {
        agree_during(group, 0.01, [&](const AfterPiece& after_piece) {
          if (group.rank() == failing) throw DataError("cut short", ExitCode::kMissingInput);
          for (; done < 10000; ++done) {
            sleep_seconds(0.01);
            after_piece();
          }
        });
        ADD_FAILURE() << "nothing was thrown";
      } catch (const AgreedError& error) {
        EXPECT_EQ(error.failing_rank(), failing);
        EXPECT_EQ(error.kind(), "DataError");
        EXPECT_EQ(error.exit_code(), ExitCode::kMissingInput);
        EXPECT_NE(std::string(error.what()).find("cut short"), std::string::npos);
      }
      EXPECT_LT(done, 1000) << "the others went on";
      expect_in_step(group);
    }
  });
}

TEST_P(AgreeDuringContract, PiecesMayComeFromSeveralThreads) {
  GetParam().run([](ProcessGroup& group) {
    const int last = group.num_ranks() - 1;
    for (const bool fails : {false, true}) {
      std::atomic<int> done = 0;
      const auto work = [&](const AfterPiece& after_piece) {
        parallel_for(30 * (group.rank() + 1), 3, [&](std::int64_t i) {
          // On the failing rank several threads fail, and others are at a meeting meanwhile.
          if (fails && group.rank() == last && i > 10) throw DataError("cut short");
          sleep_seconds(0.001);
          ++done;
          after_piece();
        });
      };
      if (fails) {
        expect_error<AgreedError>([&] { agree_during(group, 0, work); }, ExitCode::kBadData,
                                  {"cut short"});
      } else {
        agree_during(group, 0, work);
        EXPECT_EQ(done, 30 * (group.rank() + 1));
      }
      expect_in_step(group);
    }
  });
}

TEST_P(AgreeDuringContract, WhenAllRanksFailAllHaveTheErrorOfTheLowest) {
  GetParam().run([](ProcessGroup& group) {
    const auto work = [&](const AfterPiece& after_piece) {
      parallel_for(8, 2, [&](std::int64_t i) {
        after_piece();
        if (i == 3) throw std::runtime_error(str("rank ", group.rank(), " has failed"));
      });
    };
    for (int i = 0; i < 20; ++i) {
      try {
        agree_during(group, 1000, work);
        ADD_FAILURE() << "nothing was thrown";
      } catch (const AgreedError& error) {
        EXPECT_EQ(error.kind(), "InternalError");
        EXPECT_EQ(error.failing_rank(), 0);
        EXPECT_NE(std::string(error.what()).find("rank 0 has failed"), std::string::npos);
      }
    }
    expect_in_step(group);
  });
}

}  // namespace
}  // namespace triphase::test
