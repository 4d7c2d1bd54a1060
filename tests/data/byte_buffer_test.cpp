// SPDX-License-Identifier: Apache-2.0
#include "data/byte_buffer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <utility>

namespace triphase::data {
namespace {

constexpr std::size_t kMebibyte = std::size_t{1} << 20;

TEST(ByteBuffer, HoldsWhatIsWrittenAtAnySize) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4097}, 4 * kMebibyte, 4 * kMebibyte + 1, 9 * kMebibyte}) {
    ByteBuffer buffer(size);
    ASSERT_EQ(buffer.bytes().size(), size);
    std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{0x5a});
    ByteBuffer moved = std::move(buffer);
    EXPECT_TRUE(std::all_of(moved.bytes().begin(), moved.bytes().end(), [](std::byte b) { return b == std::byte{0x5a}; }));
  }
}

/// Pages that the system gives afresh are zero; those of the last block hold what it held.
TEST(ByteBuffer, TheNextFileOfAboutTheSameSizeGetsTheBlockOfTheLast) {
  const auto write = [](std::size_t size) {
    ByteBuffer buffer(size);
    std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{0x77});
  };
  const auto is_old = [](std::size_t size) { return ByteBuffer(size).bytes()[size - 1] == std::byte{0x77}; };
  write(20 * kMebibyte);
  EXPECT_TRUE(is_old(20 * kMebibyte));
  EXPECT_TRUE(is_old(12 * kMebibyte)) << "at least half of it is used";
  EXPECT_TRUE(is_old(20 * kMebibyte)) << "its size is not forgotten";
  EXPECT_FALSE(is_old(40 * kMebibyte)) << "too small";
  write(40 * kMebibyte);
  EXPECT_FALSE(is_old(12 * kMebibyte)) << "most of it would lie idle";
  std::thread([&] { EXPECT_FALSE(is_old(12 * kMebibyte)) << "another thread's"; }).join();
}

TEST(ByteBuffer, TwoAtATimeAreTwo) {
  for (int again = 0; again < 3; ++again) {
    ByteBuffer a(8 * kMebibyte);
    ByteBuffer b(8 * kMebibyte);
    std::fill(a.bytes().begin(), a.bytes().end(), std::byte{1});
    std::fill(b.bytes().begin(), b.bytes().end(), std::byte{2});
    EXPECT_EQ(a.bytes().back(), std::byte{1});
    EXPECT_EQ(b.bytes().front(), std::byte{2});
  }
}

TEST(ByteBuffer, ABlockMayBeLetGoByAnotherThread) {
  ByteBuffer made(8 * kMebibyte);
  std::thread([taken = std::move(made)]() mutable { taken.bytes()[0] = std::byte{3}; }).join();
  ByteBuffer next(8 * kMebibyte);
  next.bytes().back() = std::byte{4};
}

}  // namespace
}  // namespace triphase::data
