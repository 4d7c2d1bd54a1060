// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace triphase::dist {

struct CollectiveCall;

/// One collective of a rank, as its record keeps it.
struct CollectiveEntry {
  std::int64_t sequence = 0;  ///< within its group
  int operation = 0;          ///< an Operation
  int dtype = -1;             ///< an at::ScalarType; -1 without a tensor
  int num_ranks = 0;          ///< of its group
  std::int64_t bytes = 0;     ///< that this rank put in
  double start_seconds = 0;   ///< of the steady clock
  double end_seconds = 0;     ///< 0 while it waits
  bool has_failed = false;
  std::int64_t step = -1;
  std::string place;

  /// Such as "#7 all_reduce(sum) of 16 bytes of Float among 3 ranks at train: loss, step 12, waiting
  /// since 1.003 s".
  [[nodiscard]] std::string text(double now_seconds) const;
};

/// What one rank did last: a ring of its newest collectives, and where its process is. Threads of the
/// rank take turns to write. Readers take no lock, only atomic numbers: another process that shares
/// the memory can read what a rank that is stopped or dead has left; see SharedRecord.
class RankRecord {
 public:
  static constexpr std::uint64_t kNumEntries = 64;
  enum class Phase : std::int32_t {
    kOutside,  ///< no Runtime lives: ending is in order
    kRunning,  ///< others count on this rank
    kEnding,   ///< it ends the job, and has said why
  };

  /// @return a ticket for end(). Safe from several threads.
  std::uint64_t begin(const CollectiveCall& call, std::int64_t sequence, int num_ranks) noexcept;
  void end(std::uint64_t ticket, bool has_failed) noexcept;

  /// The newest ones, oldest first. One that is just being written is left out.
  [[nodiscard]] std::vector<CollectiveEntry> entries(std::uint64_t most = kNumEntries) const;
  /// entries() as lines, with a head line.
  [[nodiscard]] std::string text(std::uint64_t most = kNumEntries) const;
  /// Appends title, text() and `more` to the log file; without one, a few lines of text() go to
  /// standard error. Never throws.
  void write_to_log(const std::string& title, const std::string& more = {}) const noexcept;

  void set_rank(int rank, int num_ranks) noexcept;
  [[nodiscard]] int rank() const noexcept { return rank_.load(); }
  [[nodiscard]] int num_ranks() const noexcept { return num_ranks_.load(); }
  void set_phase(Phase phase) noexcept { phase_.store(phase); }
  [[nodiscard]] Phase phase() const noexcept { return phase_.load(); }
  /// Tells this job's records from those of another.
  void set_job(std::uint64_t job) noexcept { job_.store(job); }
  [[nodiscard]] std::uint64_t job() const noexcept { return job_.load(); }
  /// Where write_to_log() writes. A path that is too long is not kept. Before threads use the record.
  void set_log_file(const std::string& path) noexcept;

 private:
  static constexpr std::size_t kPlaceWords = 6;
  /// Written as a seqlock: the version is odd while the words change.
  struct Slot {
    std::atomic<std::uint64_t> version{0};
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<std::int64_t> sequence{0};
    std::atomic<std::int32_t> operation{0};
    std::atomic<std::int32_t> dtype{0};
    std::atomic<std::int32_t> num_ranks{0};
    std::atomic<std::int32_t> has_failed{0};
    std::atomic<std::int64_t> bytes{0};
    std::atomic<std::int64_t> step{0};
    std::atomic<double> start_seconds{0};
    std::atomic<double> end_seconds{0};
    std::array<std::atomic<std::uint64_t>, kPlaceWords> place{};
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
                std::atomic<double>::is_always_lock_free);

  [[nodiscard]] bool read(std::uint64_t ticket, CollectiveEntry& entry) const;

  std::mutex writing_;  ///< of the rank's own threads alone: a reader may be another process
  std::atomic<std::uint64_t> next_{0};
  std::array<Slot, kNumEntries> slots_{};
  std::atomic<std::int32_t> rank_{0};
  std::atomic<std::int32_t> num_ranks_{1};
  std::atomic<Phase> phase_{Phase::kOutside};
  std::atomic<std::uint64_t> job_{0};
  std::array<char, 1024> log_file_{};
};

/// A record in memory that other processes of this host and user can map: /proc/<process>/fd/<descriptor>.
struct SharedRecord {
  std::shared_ptr<RankRecord> record;  // the groups of a rank and its Runtime hold it together
  int descriptor = -1;                 ///< open as long as the process lives
};

/// In memory of this process alone where the system gives no other.
[[nodiscard]] SharedRecord make_shared_record();

/// The record of another process, to be read; null where that cannot be had (it is gone, it belongs
/// to someone else) or is that of another job. It shows what the process does as it does it.
[[nodiscard]] std::shared_ptr<const RankRecord> open_record(std::int64_t process, int descriptor,
                                                            std::uint64_t job);

/// Seconds of the steady clock, which the processes of a host share.
[[nodiscard]] double steady_seconds() noexcept;

}  // namespace triphase::dist
