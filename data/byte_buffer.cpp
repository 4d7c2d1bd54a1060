// SPDX-License-Identifier: Apache-2.0
#include "data/byte_buffer.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <utility>

namespace triphase::data {
namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;
constexpr std::size_t kLarge = 2 * kLargePage;

/// A block of this thread's that nobody uses.
struct Spare {
  std::byte* data = nullptr;
  std::size_t capacity = 0;
  ~Spare() { std::free(data); }

  /// nullptr where it does not fit, or is so large that much of it would lie idle.
  std::byte* take(std::size_t wanted) {
    if (capacity < wanted || capacity / 2 > wanted) return nullptr;
    capacity = 0;
    return std::exchange(data, nullptr);
  }
};
thread_local Spare spare;

}  // namespace

ByteBuffer::ByteBuffer(std::size_t size) : size_(size) {
  if (size == 0) return;
  const std::size_t alignment = size >= kLarge ? kLargePage : alignof(std::max_align_t);
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (size >= kLarge) {
    const std::size_t spare_capacity = spare.capacity;
    if (std::byte* kept = spare.take(rounded)) {
      data_ = std::unique_ptr<std::byte[], Free>{kept, Free{spare_capacity}};
      return;
    }
  }
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) throw std::bad_alloc();
  data_ = std::unique_ptr<std::byte[], Free>{data, Free{rounded}};
  // Advice: where it is refused, the pages are small.
  if (alignment == kLargePage) static_cast<void>(madvise(data, rounded, MADV_HUGEPAGE));
}

void ByteBuffer::Free::operator()(std::byte* data) const noexcept {
  if (capacity < kLarge || capacity > kLargestSpare) return std::free(data);
  std::free(std::exchange(spare.data, data));
  spare.capacity = capacity;
}

}  // namespace triphase::data
