// SPDX-License-Identifier: Apache-2.0
// The program's own write() and pwrite() stand before the C library's, for libraries too: their calls go
// through the dynamic linker, which looks into the program first.
#include "tests/data/full_disk.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>

namespace {

constexpr std::int64_t kEndless = std::numeric_limits<std::int64_t>::max() / 2;
std::atomic<std::int64_t> bytes_left = kEndless;
std::atomic<std::int64_t> num_written = 0;

/// How many of these bytes there is room for; 0 sets errno.
std::size_t grant(int descriptor, std::size_t count) {
  if (descriptor <= STDERR_FILENO || count == 0) return count;
  std::int64_t left = bytes_left;
  std::int64_t granted = 0;
  do {
    granted = std::min(left, static_cast<std::int64_t>(count));
  } while (!bytes_left.compare_exchange_weak(left, left - granted));
  num_written += granted;
  if (granted == 0) errno = ENOSPC;
  return static_cast<std::size_t>(granted);
}

ssize_t write_at(int descriptor, const void* bytes, std::size_t count, std::int64_t offset) {
  const std::size_t granted = grant(descriptor, count);
  if (granted == 0 && count > 0) return -1;
  return static_cast<ssize_t>(::syscall(SYS_pwrite64, descriptor, bytes, granted, offset));
}

}  // namespace

extern "C" {

/// Read by LeakSanitizer. HDF5 1.10 cannot free a file whose closing failed for want of space.
const char* __lsan_default_suppressions();
const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

ssize_t write(int descriptor, const void* bytes, size_t count) {
  const std::size_t granted = grant(descriptor, count);
  if (granted == 0 && count > 0) return -1;
  return static_cast<ssize_t>(::syscall(SYS_write, descriptor, bytes, granted));
}
ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  return write_at(descriptor, bytes, count, offset);
}
ssize_t pwrite64(int descriptor, const void* bytes, size_t count, off64_t offset) {
  return write_at(descriptor, bytes, count, offset);
}

}  // extern "C"

namespace triphase::test {

FullDisk::FullDisk(std::int64_t bytes) {
  ::num_written = 0;
  ::bytes_left = bytes;
}
FullDisk::~FullDisk() { ::bytes_left = kEndless; }
std::int64_t FullDisk::num_written() const { return ::num_written; }

}  // namespace triphase::test
