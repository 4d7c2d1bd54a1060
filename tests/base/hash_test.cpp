// SPDX-License-Identifier: Apache-2.0
#include "base/hash.hpp"
#include "base/random.hpp"
#include "tests/support/test_support.hpp"

#include <utility>

namespace triphase {
namespace {

using test::expect_error;
using test::TemporaryFolder;

std::string random_text(std::size_t size, std::uint64_t seed) {
  KeyedRandom random{seed};
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random.below(256));
  return text;
}

// Published values of XXH3_64bits with seed 0; other tools (xxhsum -H3, python-xxhash) give the
// same.
TEST(Xxh3, GivesThePublishedValues) {
  EXPECT_EQ(hex64(xxh3("")), "2d06800538d394c2");
  EXPECT_EQ(hex64(xxh3("a")), "e6c632b61e964e1f");
  EXPECT_EQ(hex64(xxh3("abc")), "78af5f94892f3950");
}

TEST(Xxh3, OfBytesIsThatOfText) {
  const std::string text = random_text(1000, 1);
  EXPECT_EQ(xxh3(std::as_bytes(std::span(text))), xxh3(text));
  EXPECT_EQ(xxh3(std::span<const std::byte>{}), xxh3(""));
}

TEST(Xxh3, SeesEveryFlippedBit) {
  std::string text = random_text(64, 2);
  const std::uint64_t before = xxh3(text);
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    const char mask = static_cast<char>(1 << (bit % 8));
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ mask);
    EXPECT_NE(xxh3(text), before) << "bit " << bit;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ mask);
  }
}

TEST(Hex64, HasSixteenLowerCaseDigits) {
  EXPECT_EQ(hex64(0), "0000000000000000");
  EXPECT_EQ(hex64(0x0123456789abcdefULL), "0123456789abcdef");
  EXPECT_EQ(hex64(~std::uint64_t{0}), "ffffffffffffffff");
}

// 240, 256 and 1024 are where XXH3 changes its way of working.
TEST(StreamingHash, EqualsTheHashOfTheWholeForEveryCut) {
  for (const std::size_t size : {0U, 1U, 16U, 17U, 240U, 241U, 256U, 1023U, 1024U, 5000U}) {
    const std::string text = random_text(size, size);
    for (const std::size_t piece : {1U, 7U, 64U, 1000U}) {
      StreamingHash hash;
      for (std::size_t at = 0; at < size; at += piece) hash.update(text.substr(at, piece));
      EXPECT_EQ(hash.digest(), xxh3(text)) << size << " bytes in pieces of " << piece;
    }
  }
}

TEST(StreamingHash, DigestCanBeTakenOnTheWayAndTheHashMoved) {
  StreamingHash hash;
  hash.update("ab");
  EXPECT_EQ(hash.digest(), xxh3("ab"));
  StreamingHash moved = std::move(hash);
  moved.update("c");
  moved.update(std::span<const std::byte>{});
  EXPECT_EQ(moved.digest(), xxh3("abc"));
  StreamingHash assigned;
  assigned = std::move(moved);
  EXPECT_EQ(assigned.digest(), xxh3("abc"));
}

TEST(HashFile, EqualsTheHashOfTheContent) {
  const TemporaryFolder folder;
  for (const std::size_t size : {0U, 1U, (1U << 20) - 1, 1U << 20, (1U << 20) + 1, 3000000U}) {
    const std::string text = random_text(size, 3);
    test::write_text(folder / "file", text);
    EXPECT_EQ(hash_file(folder / "file"), xxh3(text)) << size;
  }
}

TEST(HashFile, NamesAFileThatIsNotThere) {
  const TemporaryFolder folder;
  expect_error<DataError>([&] { static_cast<void>(hash_file(folder / "absent")); },
                          ExitCode::kMissingInput, {"absent", "not there"});
  expect_error<DataError>([&] { static_cast<void>(hash_file(folder.path())); }, ExitCode::kBadData,
                          {"is a folder"});
}

}  // namespace
}  // namespace triphase
