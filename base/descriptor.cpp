// SPDX-License-Identifier: Apache-2.0
#include "base/descriptor.hpp"

#include "base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace triphase {

int Descriptor::close() noexcept {
  if (value_ < 0) return 0;
  return ::close(std::exchange(value_, -1)) == 0 ? 0 : errno;
}

InputFile open_input(const std::filesystem::path& path) {
  InputFile file;
  file.descriptor = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.descriptor.get() < 0) {
    const int reason = errno;
    TRIPHASE_CHECK_CODE(DataError, kMissingInput, reason != ENOENT && reason != ENOTDIR, "'",
                        path.string(), "' is not there. Check the path.");
    throw io_error(str("cannot read '", path.string(), "'"), reason);
  }
  struct stat status {};
  if (::fstat(file.descriptor.get(), &status) != 0)
    throw io_error(str("cannot read '", path.string(), "'"), errno);
  TRIPHASE_CHECK(DataError, !S_ISDIR(status.st_mode), "'", path.string(),
                 "' is a folder, expected a file. Give the file in it.");
  file.size_bytes = status.st_size;
  return file;
}

std::size_t read_some(const Descriptor& descriptor, void* bytes, std::size_t size,
                      const std::filesystem::path& path) {
  ssize_t count = 0;
  do {
    count = ::read(descriptor.get(), bytes, size);
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw io_error(str("cannot read '", path.string(), "'"), errno);
  return static_cast<std::size_t>(count);
}

}  // namespace triphase
