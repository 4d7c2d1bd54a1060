// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

namespace triphase {

/// An open file descriptor that is closed at the end of its life.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) noexcept : value_(value) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const noexcept { return value_; }
  /// @return 0, or the errno with which the operating system answered
  int close() noexcept;

 private:
  int value_;
};

/// A file opened for reading.
struct InputFile {
  Descriptor descriptor;
  std::int64_t size_bytes = 0;  ///< as the file system says; 0 for a pipe and in /proc
};

/// @throws DataError (66) when it is not there, (65) when it is a folder; IoError otherwise
[[nodiscard]] InputFile open_input(const std::filesystem::path& path);

/// Reads up to `size` bytes, again when a signal interrupts. @return 0 at the end. @throws IoError
[[nodiscard]] std::size_t read_some(const Descriptor& descriptor, void* bytes, std::size_t size,
                                    const std::filesystem::path& path);

}  // namespace triphase
