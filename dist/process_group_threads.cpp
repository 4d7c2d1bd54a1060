// SPDX-License-Identifier: Apache-2.0
#include "dist/host_group.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

namespace triphase::dist {
namespace {

using Clock = std::chrono::steady_clock;

/// Where the threads of a group meet. Each publishes an address, all arrive, each reads the others'
/// memory, all leave.
class Meeting {
 public:
  Meeting(int num_ranks, std::shared_ptr<std::atomic<double>> timeout_seconds)
      : addresses_(static_cast<std::size_t>(num_ranks)),
        is_here_(addresses_.size()),
        timeout_seconds_(std::move(timeout_seconds)) {}

  [[nodiscard]] int num_ranks() const { return static_cast<int>(addresses_.size()); }
  [[nodiscard]] const std::shared_ptr<std::atomic<double>>& timeout() const {
    return timeout_seconds_;
  }

  /// Waits until every rank has come with its address.
  void arrive(int rank, const void* address);
  /// Waits until every rank has read what it wanted. Nobody can be late here but by copying, so it
  /// knows no timeout: memory stays as it is as long as anyone reads.
  void leave();
  [[nodiscard]] const std::byte* address(int rank) const {
    return static_cast<const std::byte*>(addresses_[static_cast<std::size_t>(rank)]);
  }
  /// The rank's thread is done with the group, by an error or not.
  void depart(int rank);
  [[nodiscard]] bool is_broken() const {
    const std::lock_guard lock(mutex_);
    return !broken_.empty();
  }

 private:
  [[nodiscard]] std::string missing_ranks() const;
  [[noreturn]] void break_up(const std::string& reason, ExitCode code);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<const void*> addresses_;
  std::vector<bool> is_here_;
  std::shared_ptr<std::atomic<double>>
      timeout_seconds_;  // shared with the groups split from this one
  int num_arrived_ = 0;
  int num_left_ = 0;
  std::int64_t round_ = 0;
  std::int64_t round_left_ = 0;
  int departed_ = -1;
  std::string broken_;
  ExitCode broken_code_ = ExitCode::kCommunication;
};

std::string Meeting::missing_ranks() const {
  std::string text;
  for (std::size_t r = 0; r < is_here_.size(); ++r)
    if (!is_here_[r]) text += str(text.empty() ? "rank " : ", rank ", r);
  return text;
}

void Meeting::break_up(const std::string& reason, ExitCode code) {
  broken_ = reason;
  broken_code_ = code;
  changed_.notify_all();
  throw CommError(broken_, code);
}

void Meeting::arrive(int rank, const void* address) {
  std::unique_lock lock(mutex_);
  if (!broken_.empty()) throw CommError(broken_, broken_code_);
  const auto slot = static_cast<std::size_t>(rank);
  addresses_[slot] = address;
  is_here_[slot] = true;
  const std::int64_t round = round_;
  if (++num_arrived_ == num_ranks()) {
    num_arrived_ = 0;
    is_here_.assign(is_here_.size(), false);
    ++round_;
    changed_.notify_all();
    return;
  }
  const double seconds = timeout_seconds_->load();
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  while (round_ == round) {
    if (!broken_.empty()) throw CommError(broken_, broken_code_);
    if (departed_ >= 0)
      break_up(str("rank ", departed_, " left the group while others waited for it"),
               ExitCode::kCommunication);
    const auto until = std::chrono::time_point_cast<Clock::duration>(deadline);
    if (changed_.wait_until(lock, until) == std::cv_status::timeout && round_ == round)
      break_up(str("waited ", seconds, " s for ", missing_ranks()), ExitCode::kTimeout);
  }
}

void Meeting::leave() {
  std::unique_lock lock(mutex_);
  const std::int64_t round = round_left_;
  if (++num_left_ == num_ranks()) {
    num_left_ = 0;
    ++round_left_;
    changed_.notify_all();
    return;
  }
  changed_.wait(lock, [&] { return round_left_ != round; });
}

void Meeting::depart(int rank) {
  const std::lock_guard lock(mutex_);
  departed_ = rank;
  changed_.notify_all();
}

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(int rank, std::shared_ptr<Meeting> meeting)
      : rank_(rank), meeting_(std::move(meeting)) {}
  ~ThreadTransport() override { meeting_->depart(rank_); }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int num_ranks() const override { return meeting_->num_ranks(); }
  [[nodiscard]] std::string backend() const override { return "threads"; }
  void set_timeout(double seconds) override { meeting_->timeout()->store(seconds); }
  [[nodiscard]] bool is_broken() const override { return meeting_->is_broken(); }

  void all_gather(const std::byte* in, std::int64_t bytes, std::byte* out,
                  std::int64_t stride) override {
    exchange(in, [&] {
      for (int r = 0; r < num_ranks(); ++r) copy(meeting_->address(r), bytes, out + r * stride);
    });
  }
  void all_to_all(const std::byte* in, std::int64_t bytes, std::int64_t stride,
                  std::byte* out) override {
    exchange(in, [&] {
      for (int r = 0; r < num_ranks(); ++r)
        copy(meeting_->address(r) + rank_ * stride, bytes, out + r * bytes);
    });
  }
  void broadcast(std::byte* data, std::int64_t bytes, int root) override {
    exchange(data, [&] { copy(meeting_->address(root), bytes, data); });
  }
  void send_receive(const std::byte* out, int /*to*/, std::byte* in, int from,
                    std::int64_t bytes) override {
    exchange(out, [&] { copy(meeting_->address(from), bytes, in); });
  }
  std::unique_ptr<Transport> split(int color, int key) override;

 private:
  struct Choice {
    int color;
    int key;
  };

  template <class Read>
  void exchange(const void* address, Read&& read) {
    meeting_->arrive(rank_, address);
    read();
    meeting_->leave();
  }
  static void copy(const std::byte* from, std::int64_t bytes, std::byte* to) {
    if (from != to) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }

  int rank_;
  std::shared_ptr<Meeting> meeting_;  // shared by the threads of the group
};

std::unique_ptr<Transport> ThreadTransport::split(int color, int key) {
  const Choice mine{color, key};
  std::vector<Choice> all(static_cast<std::size_t>(num_ranks()));
  all_gather(reinterpret_cast<const std::byte*>(&mine), sizeof(Choice),
             reinterpret_cast<std::byte*>(all.data()), sizeof(Choice));
  std::vector<int> members;
  for (int r = 0; r < num_ranks(); ++r)
    if (all[static_cast<std::size_t>(r)].color == color) members.push_back(r);
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
    return all[static_cast<std::size_t>(a)].key < all[static_cast<std::size_t>(b)].key;
  });
  // The first member makes the meeting place; the others take their share of it.
  std::shared_ptr<Meeting> place;
  if (members[0] == rank_)
    place = std::make_shared<Meeting>(static_cast<int>(members.size()), meeting_->timeout());
  std::shared_ptr<Meeting> found;
  exchange(&place, [&] {
    found = *reinterpret_cast<const std::shared_ptr<Meeting>*>(meeting_->address(members[0]));
  });
  const auto position = std::find(members.begin(), members.end(), rank_) - members.begin();
  return std::make_unique<ThreadTransport>(static_cast<int>(position), std::move(found));
}

}  // namespace

std::vector<std::unique_ptr<ProcessGroup>> make_thread_groups(int num_ranks,
                                                              double timeout_seconds) {
  TRIPHASE_CHECK(CommError, num_ranks >= 1, "a group needs at least one rank, got ", num_ranks);
  const auto meeting =
      std::make_shared<Meeting>(num_ranks, std::make_shared<std::atomic<double>>(timeout_seconds));
  std::vector<std::unique_ptr<ProcessGroup>> groups;
  for (int r = 0; r < num_ranks; ++r)
    groups.push_back(make_host_group(std::make_unique<ThreadTransport>(r, meeting)));
  return groups;
}

}  // namespace triphase::dist
