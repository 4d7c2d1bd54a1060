// SPDX-License-Identifier: Apache-2.0
#include "dist/agree_during.hpp"

#include "dist/runtime.hpp"

#include <chrono>
#include <exception>
#include <mutex>
#include <optional>

namespace triphase::dist {
namespace {

using Clock = std::chrono::steady_clock;

// Note [Meetings]
// At a meeting the ranks agree that all are well, and whether anyone has work left. A rank with
// work left comes after the first piece that ends a round; one that is done, or has failed, comes
// at once and stays until nobody has work left. So every rank takes part in the same number of
// meetings, though it comes from different places and has done a different number of pieces.
class Meetings {
 public:
  Meetings(ProcessGroup& group, double round_seconds)
      : group_(group), round_(round_seconds), last_(Clock::now()) {}

  void after_piece() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return;  // another thread is at a meeting for this rank
    if (end_) std::rethrow_exception(end_);
    if (Clock::now() - last_ >= round_) static_cast<void>(meet(std::nullopt, true));
  }

  /// The work is over, well or not.
  void finish(const std::optional<Error>& error) {
    // The work ends by the error of a meeting or by its own, when one came upon the other in two
    // threads. The ranks know that of the meeting, and are gone.
    if (end_) std::rethrow_exception(end_);
    while (meet(error, false)) {
    }
  }

 private:
  /// @return whether any rank has work left
  bool meet(const std::optional<Error>& error, bool has_more) {
    try {
      agree(group_, error);
      const bool goes_on = any_rank(group_, has_more);
      last_ = Clock::now();
      return goes_on;
    } catch (...) {
      end_ = std::current_exception();
      throw;
    }
  }

  ProcessGroup& group_;
  std::chrono::duration<double> round_;
  std::mutex mutex_;
  Clock::time_point last_;
  std::exception_ptr end_;  ///< what a meeting threw
};

}  // namespace

void agree_during(ProcessGroup& group, double round_seconds,
                  const std::function<void(const std::function<void()>& after_piece)>& work) {
  Meetings meetings(group, round_seconds);
  std::optional<Error> error;
  try {
    work([&meetings] { meetings.after_piece(); });
  } catch (const std::exception& caught) {
    error = error_of(caught);
  }
  meetings.finish(error);
}

}  // namespace triphase::dist
