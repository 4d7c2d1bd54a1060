// SPDX-License-Identifier: Apache-2.0
#include "data/folder_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>

#include "base/error.hpp"
#include "base/file.hpp"

namespace triphase::data {
namespace {

// The byte that only a lead locks, and the one that all followers share.
constexpr off_t kLeadByte = 0, kFollowByte = 1;

/// @return 0, or the errno with which the system answered. The lock belongs to the open file, so
/// that threads exclude each other, too.
int set_lock(int descriptor, off_t byte, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  while (::fcntl(descriptor, F_OFD_SETLK, &lock) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

bool is_held(int error) { return error == EAGAIN || error == EACCES; }
bool is_unsupported(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
}

Descriptor open_lock(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (file.get() < 0) throw io_error(str("cannot write '", path.string(), "'"), errno, true);
  return file;
}

/// The file may have been deleted, by the build that ended, after we opened it.
bool is_still_there(const Descriptor& file, const std::filesystem::path& path) {
  struct stat ours {};
  struct stat there {};
  return ::fstat(file.get(), &ours) == 0 && ::stat(path.c_str(), &there) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/// As a lead: no other lead, and no follower that outlived its own.
int try_to_lead(const Descriptor& file) {
  if (const int error = set_lock(file.get(), kLeadByte, F_WRLCK)) return error;
  const int error = set_lock(file.get(), kFollowByte, F_WRLCK);
  set_lock(file.get(), error == 0 ? kFollowByte : kLeadByte, F_UNLCK);
  return error;
}

void write_holder(const Descriptor& file) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string text = str("process ", ::getpid(), " on ", host.data(), "\n");
  // What cannot be written is missing in a message at worst.
  if (::ftruncate(file.get(), 0) == 0)
    static_cast<void>(::pwrite(file.get(), text.data(), text.size(), 0) >= 0);
}

std::string holder(const Descriptor& file) {
  std::array<char, 512> text{};
  const ssize_t count = ::pread(file.get(), text.data(), text.size() - 1, 0);
  const std::string found(text.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  return found.empty() ? "an unknown process" : found.substr(0, found.find('\n'));
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder, Role role, double patience_seconds)
    : path_(folder / ".build.lock"), role_(role) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(patience_seconds);
  for (;;) {
    file_ = open_lock(path_);
    const int error = role == Role::kLead ? try_to_lead(file_)
                                          : set_lock(file_.get(), kFollowByte, F_RDLCK);
    if (is_unsupported(error)) {
      is_effective_ = false;
      return;
    }
    if (error == 0 && is_still_there(file_, path_)) break;
    if (error != 0 && !is_held(error))
      throw io_error(str("cannot lock '", path_.string(), "'"), error, true);
    if (error != 0 && Clock::now() >= end)
      throw IoError(str("another build writes to '", folder.string(), "' (", holder(file_),
                        "). Wait for its end, or choose another folder."),
                    ExitCode::kCannotCreateOutput);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (role == Role::kLead) write_holder(file_);
}

FolderLock::~FolderLock() {
  if (role_ != Role::kLead) return;
  std::error_code ignored;  // one that stays does no harm
  std::filesystem::remove(path_, ignored);
}

}  // namespace triphase::data
