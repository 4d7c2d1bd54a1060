// SPDX-License-Identifier: Apache-2.0
#include "dist/rank_record.hpp"

#include "base/error.hpp"
#include "dist/collective_call.hpp"
#include "dist/collective_place.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iomanip>
#include <new>
#include <sstream>

namespace triphase::dist {
namespace {

constexpr std::uint64_t kEntriesOnStandardError = 4;

std::string fixed(double seconds) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3) << seconds;
  return out.str();
}

void append_to(int descriptor, const std::string& text) noexcept {
  const ssize_t written = ::write(descriptor, text.data(), text.size());
  static_cast<void>(written);  // a log that cannot be written is lost
}

}  // namespace

double steady_seconds() noexcept {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string CollectiveEntry::text(double now_seconds) const {
  std::string line = str("#", sequence, " ", operation_name(static_cast<Operation>(operation)));
  if (dtype >= 0)
    line += str(" of ", bytes, " bytes of ", at::toString(static_cast<at::ScalarType>(dtype)));
  line += str(" among ", num_ranks, " ranks");
  if (!place.empty()) line += " at " + place;
  if (step >= 0) line += str(", step ", step);
  if (end_seconds == 0) return line + ", waiting since " + fixed(now_seconds - start_seconds) + " s";
  return line + (has_failed ? ", failed after " : ", done in ") +
         fixed(end_seconds - start_seconds) + " s, " + fixed(now_seconds - end_seconds) + " s ago";
}

// The stores are releases and the loads acquires, so that a reader that sees a new word sees the odd
// version that was set before it, and needs no fence.
std::uint64_t RankRecord::begin(const CollectiveCall& call, std::int64_t sequence,
                                int num_ranks) noexcept {
  const std::lock_guard lock(writing_);
  const std::uint64_t ticket = next_.fetch_add(1);
  Slot& slot = slots_[ticket % kNumEntries];
  constexpr auto release = std::memory_order_release;
  slot.version.store(2 * ticket + 1, release);
  const bool has_tensor = call.tensor.defined();
  slot.ticket.store(ticket, release);
  slot.sequence.store(sequence, release);
  slot.operation.store(static_cast<std::int32_t>(call.operation), release);
  slot.dtype.store(has_tensor ? static_cast<std::int32_t>(call.tensor.scalar_type()) : -1, release);
  slot.num_ranks.store(num_ranks, release);
  slot.has_failed.store(0, release);
  slot.bytes.store(has_tensor ? static_cast<std::int64_t>(call.tensor.nbytes()) : 0, release);
  const CollectivePlace* place = CollectivePlace::current();
  slot.step.store(place != nullptr ? place->step() : -1, release);
  std::array<std::uint64_t, kPlaceWords> words{};
  if (place != nullptr)
    std::memcpy(words.data(), place->label(), std::min(std::strlen(place->label()), sizeof words));
  for (std::size_t i = 0; i < kPlaceWords; ++i) slot.place[i].store(words[i], release);
  slot.start_seconds.store(steady_seconds(), release);
  slot.end_seconds.store(0, release);
  slot.version.store(2 * ticket + 2, release);
  return ticket;
}

void RankRecord::end(std::uint64_t ticket, bool has_failed) noexcept {
  const std::lock_guard lock(writing_);
  Slot& slot = slots_[ticket % kNumEntries];
  if (slot.ticket.load() != ticket) return;  // overtaken by as many others as there are slots
  slot.has_failed.store(has_failed ? 1 : 0);
  slot.end_seconds.store(steady_seconds());
}

bool RankRecord::read(std::uint64_t ticket, CollectiveEntry& entry) const {
  const Slot& slot = slots_[ticket % kNumEntries];
  constexpr auto acquire = std::memory_order_acquire;
  if (slot.version.load(acquire) != 2 * ticket + 2) return false;
  entry.sequence = slot.sequence.load(acquire);
  entry.operation = slot.operation.load(acquire);
  entry.dtype = slot.dtype.load(acquire);
  entry.num_ranks = slot.num_ranks.load(acquire);
  entry.bytes = slot.bytes.load(acquire);
  entry.step = slot.step.load(acquire);
  entry.start_seconds = slot.start_seconds.load(acquire);
  entry.end_seconds = slot.end_seconds.load(acquire);
  entry.has_failed = slot.has_failed.load(acquire) != 0;
  std::array<std::uint64_t, kPlaceWords> words{};
  for (std::size_t i = 0; i < kPlaceWords; ++i) words[i] = slot.place[i].load(acquire);
  const auto* label = reinterpret_cast<const char*>(words.data());
  entry.place.assign(label, strnlen(label, sizeof words));
  return slot.version.load(acquire) == 2 * ticket + 2;
}

std::vector<CollectiveEntry> RankRecord::entries(std::uint64_t most) const {
  const std::uint64_t end = next_.load();
  std::vector<CollectiveEntry> found;
  for (std::uint64_t ticket = end - std::min({end, most, kNumEntries}); ticket < end; ++ticket) {
    CollectiveEntry entry;
    if (read(ticket, entry)) found.push_back(std::move(entry));
  }
  return found;
}

std::string RankRecord::text(std::uint64_t most) const {
  const std::vector<CollectiveEntry> found = entries(most);
  std::string lines = str("last ", found.size(), " collectives of rank ", rank(), " of ",
                          num_ranks(), ", the newest last\n");
  for (const CollectiveEntry& entry : found) lines += "  " + entry.text(steady_seconds()) + "\n";
  return lines;
}

void RankRecord::write_to_log(const std::string& title, const std::string& more) const noexcept {
  try {
    const int file = log_file_[0] == '\0'
                         ? -1
                         : ::open(log_file_.data(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0) return append_to(STDERR_FILENO, text(kEntriesOnStandardError));
    append_to(file, title + "\n" + text() + more);
    ::close(file);
  } catch (...) {  // no memory for a log
  }
}

void RankRecord::set_rank(int rank, int num_ranks) noexcept {
  rank_.store(rank);
  num_ranks_.store(num_ranks);
}

void RankRecord::set_log_file(const std::string& path) noexcept {
  if (path.size() < log_file_.size()) std::memcpy(log_file_.data(), path.c_str(), path.size() + 1);
}

SharedRecord make_shared_record() {
  const int descriptor = memfd_create("triphase-record", MFD_CLOEXEC);
  void* memory = MAP_FAILED;
  if (descriptor >= 0 && ftruncate(descriptor, sizeof(RankRecord)) == 0)
    memory = mmap(nullptr, sizeof(RankRecord), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) {
    if (descriptor >= 0) ::close(descriptor);
    return {std::make_shared<RankRecord>(), -1};
  }
  return {{new (memory) RankRecord, [](RankRecord* at) { munmap(at, sizeof(RankRecord)); }},
          descriptor};
}

std::shared_ptr<const RankRecord> open_record(std::int64_t process, int descriptor,
                                              std::uint64_t job) {
  const std::string path = str("/proc/", process, "/fd/", descriptor);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return nullptr;
  const bool is_long_enough = lseek(file, 0, SEEK_END) == static_cast<off_t>(sizeof(RankRecord));
  void* memory = is_long_enough
                     ? mmap(nullptr, sizeof(RankRecord), PROT_READ, MAP_SHARED, file, 0)
                     : MAP_FAILED;
  ::close(file);
  if (memory == MAP_FAILED) return nullptr;
  const std::shared_ptr<const RankRecord> record(
      static_cast<const RankRecord*>(memory),
      [](const RankRecord* at) { munmap(const_cast<RankRecord*>(at), sizeof(RankRecord)); });
  return record->job() == job ? record : nullptr;
}

}  // namespace triphase::dist
