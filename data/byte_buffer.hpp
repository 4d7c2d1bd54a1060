// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace triphase::data {

/// Uninitialised bytes for large files, in large pages where the system has them: zeroing and mapping
/// small pages would take a fifth of the time of inflating a scan into them. For the same reason a thread keeps
/// the last block that it let go, of up to kLargestSpare bytes, for the next file of about that size.
class ByteBuffer {
 public:
  ByteBuffer() = default;
  /// @throws std::bad_alloc
  explicit ByteBuffer(std::size_t size);
  [[nodiscard]] std::span<std::byte> bytes() { return {data_.get(), size_}; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  static constexpr std::size_t kLargestSpare = std::size_t{512} << 20;
  struct Free {
    std::size_t capacity;
    void operator()(std::byte* data) const noexcept;
  };
  std::unique_ptr<std::byte[], Free> data_{nullptr, Free{0}};
  std::size_t size_ = 0;
};

}  // namespace triphase::data
