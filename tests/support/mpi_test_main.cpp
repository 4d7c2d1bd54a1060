// SPDX-License-Identifier: Apache-2.0
// The main of every multi-rank test: a failure on one rank fails all, with its rank; a test that hangs is
// named and ended; no tests run is a failure.
#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

/// Makes a failure on any rank a failure on every rank. Owns a duplicate communicator, so that its traffic
/// never meets a test's collective.
class RankAgreement final : public ::testing::EmptyTestEventListener {
 public:
  RankAgreement() {
    MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~RankAgreement() override { MPI_Comm_free(&comm_); }

  void OnTestPartResult(const ::testing::TestPartResult& part) override {
    if (part.failed() && rank_ != 0)  // rank 0 keeps GoogleTest's own printer
      std::fprintf(stderr, "[rank %d/%d] %s:%d: %s\n", rank_, size_,
                   part.file_name() != nullptr ? part.file_name() : "?", part.line_number(),
                   part.message());
  }
  void OnTestEnd(const ::testing::TestInfo& info) override {
    const int here = info.result()->Failed() ? 1 : 0;
    if (worst(here) != 0 && here == 0) ADD_FAILURE() << "failed on another rank (see its output)";
  }
  /// The largest value of any rank. Collective.
  [[nodiscard]] int worst(int value) const {
    int result = 0;
    MPI_Allreduce(&value, &result, 1, MPI_INT, MPI_MAX, comm_);
    return result;
  }
  [[nodiscard]] int rank() const { return rank_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

/// Ends the process when one test outlives its limit. _Exit, because abort() can itself block inside MPI;
/// the launcher ends the other ranks.
class HangWatchdog final : public ::testing::EmptyTestEventListener {
 public:
  HangWatchdog(int rank, std::chrono::seconds limit)
      : rank_(rank), limit_(limit), thread_([this](const std::stop_token& stop) { watch(stop); }) {}

  void OnTestStart(const ::testing::TestInfo& info) override {
    const std::lock_guard lock(mutex_);
    test_ = std::string(info.test_suite_name()) + "." + info.name();
    deadline_ = Clock::now() + limit_;
  }
  void OnTestEnd(const ::testing::TestInfo& /*info*/) override {
    const std::lock_guard lock(mutex_);
    test_.clear();
  }

 private:
  void watch(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      const std::lock_guard lock(mutex_);
      if (test_.empty() || Clock::now() < deadline_) continue;
      std::fprintf(stderr, "[rank %d] still in %s after %lld s; ending the job\n", rank_,
                   test_.c_str(), static_cast<long long>(limit_.count()));
      std::_Exit(78);
    }
  }

  int rank_;
  std::chrono::seconds limit_;
  std::mutex mutex_;
  std::string test_;
  Clock::time_point deadline_;
  std::jthread thread_;  // last: joins before the members above go
};

}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  ::testing::InitGoogleTest(&argc, argv);

  const char* limit = std::getenv("TRIPHASE_TEST_HANG_SECONDS");
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  auto* agreement = new RankAgreement;  // GoogleTest owns it from Append on
  if (agreement->rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    delete listeners.Release(listeners.default_xml_generator());
  }
  // End events run in reverse order: the watchdog is disarmed first, then the ranks agree, then rank 0 prints.
  listeners.Append(agreement);
  listeners.Append(new HangWatchdog(
      agreement->rank(), std::chrono::seconds(limit != nullptr ? std::atoi(limit) : 60)));

  int code = RUN_ALL_TESTS();
  if (::testing::UnitTest::GetInstance()->test_to_run_count() == 0) code = 1;
  code = agreement->worst(code);
  delete listeners.Release(agreement);  // its communicator must go before MPI does
  MPI_Finalize();
  return code;
}
