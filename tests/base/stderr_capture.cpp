// SPDX-License-Identifier: Apache-2.0
#include "tests/base/stderr_capture.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

namespace triphase::test {
namespace {

int checked(int result) {
  if (result < 0) throw std::runtime_error("cannot capture standard error");
  return result;
}

}  // namespace

StderrCapture::StderrCapture(StderrTarget target)
    : saved_(checked(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3))), target_(target) {
  std::fflush(stderr);
  if (target == StderrTarget::kTerminal) {
    reading_ = Descriptor(checked(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)));
    checked(grantpt(reading_.get()));
    checked(unlockpt(reading_.get()));
    const Descriptor writing(checked(open(ptsname(reading_.get()), O_WRONLY | O_NOCTTY)));
    checked(dup2(writing.get(), STDERR_FILENO));
    return;
  }
  std::string name = (std::filesystem::temp_directory_path() / "triphase-stderr-XXXXXX").string();
  reading_ = Descriptor(checked(mkstemp(name.data())));
  checked(unlink(name.c_str()));
  checked(dup2(reading_.get(), STDERR_FILENO));
}

StderrCapture::~StderrCapture() { restore(); }

void StderrCapture::restore() {
  if (saved_.get() >= 0) dup2(saved_.get(), STDERR_FILENO);
  saved_.close();
}

std::string StderrCapture::take() {
  std::string text;
  std::array<char, 4096> buffer{};
  // A terminal forgets what was not read when its last writer leaves: so read first.
  if (target_ == StderrTarget::kFile) checked(static_cast<int>(lseek(reading_.get(), 0, SEEK_SET)));
  for (ssize_t n = 0; (n = read(reading_.get(), buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(n));
  restore();
  return text;
}

}  // namespace triphase::test
