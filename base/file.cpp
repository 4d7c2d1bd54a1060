// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"

#include "base/descriptor.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace triphase {
namespace {

namespace fs = std::filesystem;

ExitCode exit_code_of(int errno_value, bool creating) {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EIO:
    case EFBIG:
      return ExitCode::kIo;
    case EACCES:
    case EPERM:
      return ExitCode::kPermission;
    case ENOENT:
    case ENOTDIR:
      return creating ? ExitCode::kCannotCreateOutput : ExitCode::kMissingInput;
    default:
      return creating ? ExitCode::kCannotCreateOutput : ExitCode::kIo;
  }
}

std::string_view advice(int errno_value, ExitCode code) {
  if (errno_value == ENOSPC || errno_value == EDQUOT)
    return " Free some space, or choose a folder on another disk.";
  if (errno_value == EFBIG) return " Raise the limit on file sizes (ulimit -f).";
  if (errno_value == EROFS) return " Choose a folder on a disk that can be written.";
  if (code == ExitCode::kPermission) return " Ask the owner for access, or choose another path.";
  if (code == ExitCode::kCannotCreateOutput) return " Check each folder of the path.";
  if (code == ExitCode::kMissingInput) return " Check the path.";
  return " Check the disk and the system's log.";
}

std::string cannot(std::string_view verb, const fs::path& path) {
  return str("cannot ", verb, " '", path.string(), "'");
}

/// A new file beside `path` under a name that no other process or thread has.
std::pair<fs::path, Descriptor> create_beside(const fs::path& path) {
  static std::atomic<std::uint64_t> counter = 0;
  for (;;) {
    // Two hosts may share a folder and a process number: then the next counter is tried.
    fs::path temporary = path;
    temporary.replace_filename(
        str(".", path.filename().string(), ".", ::getpid(), ".", counter++, ".part"));
    Descriptor descriptor(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (descriptor.get() >= 0) return {std::move(temporary), std::move(descriptor)};
    if (errno != EEXIST) throw io_error(cannot("write", path), errno, true);
  }
}

/// @return 0 or an errno
int write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return 0;
}

/// Everything between the new file's creation and its final name. @return 0 or an errno
int fill_and_rename(const fs::path& temporary, Descriptor& descriptor, const fs::path& path,
                    const struct stat* old_status, std::string_view bytes) {
  if (old_status != nullptr && ::fchmod(descriptor.get(), old_status->st_mode & 07777) != 0)
    return errno;
  if (const int reason = write_all(descriptor.get(), bytes)) return reason;
  if (::fsync(descriptor.get()) != 0) return errno;
  if (const int reason = descriptor.close()) return reason;
  return ::rename(temporary.c_str(), path.c_str()) == 0 ? 0 : errno;
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

IoError io_error(std::string_view what, int errno_value, bool creating) {
  const ExitCode code = exit_code_of(errno_value, creating);
  return {
      str(what, ": ", std::generic_category().message(errno_value), ".", advice(errno_value, code)),
      code};
}

std::string read_file(const fs::path& path, std::int64_t max_bytes) {
  const InputFile file = open_input(path);
  const auto check_size = [&](std::int64_t size) {
    TRIPHASE_CHECK(DataError, size <= max_bytes, "'", path.string(), "' has ",
                   std::max(size, file.size_bytes), " bytes or more, expected at most ", max_bytes,
                   ". Check that it is the right file.");
  };
  check_size(file.size_bytes);
  // One byte more than promised shows a file that grows, or one whose size is not known beforehand.
  std::string text(static_cast<std::size_t>(file.size_bytes) + 1, '\0');
  std::size_t filled = 0;
  for (;;) {
    const std::size_t count =
        read_some(file.descriptor, text.data() + filled, text.size() - filled, path);
    filled += count;
    check_size(static_cast<std::int64_t>(filled));
    if (count == 0) break;
    if (filled == text.size()) {
      const auto most = static_cast<std::size_t>(max_bytes) + 1;
      text.resize(std::min(most, std::max<std::size_t>(2 * text.size(), 4096)));
    }
  }
  text.resize(filled);
  return text;
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  struct stat status {};
  const bool exists = ::lstat(path.c_str(), &status) == 0;
  const bool replaceable = !exists || S_ISREG(status.st_mode) || S_ISLNK(status.st_mode);
  TRIPHASE_CHECK_CODE(IoError, kCannotCreateOutput, replaceable && path.has_filename(),
                      cannot("write", path), ": it is no ordinary file. Choose another name.");
  auto [temporary, descriptor] = create_beside(path);
  const bool keep_mode = exists && S_ISREG(status.st_mode);
  const int reason =
      fill_and_rename(temporary, descriptor, path, keep_mode ? &status : nullptr, bytes);
  if (reason != 0) {
    ::unlink(temporary.c_str());
    throw io_error(cannot("write", path), reason, true);
  }
  fsync_path(parent_of(path));
}

void fsync_path(const fs::path& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) throw io_error(cannot("flush", path), errno);
  // Some network file systems and devices cannot flush and say EINVAL; there is nothing to wait for
  // then.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL)
    throw io_error(cannot("flush", path), errno);
}

void make_output_directory(const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) throw io_error(cannot("create the folder", path), failure.value(), true);
  // Permission bits do not tell: read-only mounts, root squash, quotas. So a file is made for a
  // moment.
  std::string probe = (path / ".triphase-XXXXXX").string();
  const Descriptor descriptor(::mkostemp(probe.data(), O_CLOEXEC));
  if (descriptor.get() < 0) throw io_error(cannot("write into the folder", path), errno, true);
  ::unlink(probe.c_str());
}

MappedFile::MappedFile(const fs::path& path) {
  const InputFile file = open_input(path);
  if (file.size_bytes == 0) return;  // an empty mapping does not exist
  const auto size = static_cast<std::size_t>(file.size_bytes);
  void* const data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor.get(), 0);
  if (data == MAP_FAILED) throw io_error(cannot("map", path), errno);
  data_ = static_cast<const std::byte*>(data);
  size_ = size;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> part) const noexcept {
  if (part.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  // Outwards to whole pages: neighbours on the same page are only fetched once more.
  const std::uintptr_t first = begin / page * page;
  const std::uintptr_t last = (begin + part.size() + page - 1) / page * page;
  // Advice: where it is refused, the memory stays until the mapping ends.
  static_cast<void>(::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace triphase
