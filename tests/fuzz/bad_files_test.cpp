// SPDX-License-Identifier: Apache-2.0
// Damaged files of every kind that a user may bring: a clear error with exit code 65, or no harm
// done.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/fuzz/readers.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::fuzz {
namespace {

namespace fs = std::filesystem;
using triphase::test::read_text;
using triphase::test::TemporaryFolder;
using triphase::test::write_text;

/// A copy of a reader's valid folder.
fs::path copied(const Reader& reader, const TemporaryFolder& folder) {
  const fs::path copy = folder / "copy";
  fs::remove_all(copy);
  fs::copy(reader.valid, copy);
  return copy;
}

std::string flipped(std::string bytes, std::size_t at, std::size_t bit) {
  bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ (1U << bit % 8));
  return bytes;
}

/// Lines that differ between two texts of as many lines.
std::vector<std::string> changed_lines(const std::string& before, const std::string& after) {
  std::istringstream old_text(before), new_text(after);
  std::vector<std::string> changed;
  std::string one, two;
  while (std::getline(old_text, one) && std::getline(new_text, two))
    if (one != two) changed.push_back(two);
  return changed;
}

std::size_t header_end(const std::string& safetensors) {
  std::uint64_t length = 0;
  std::memcpy(&length, safetensors.data(), sizeof length);
  return sizeof length + static_cast<std::size_t>(length);
}

/// What neither a sum nor another file can tell, so that a flipped byte may change it. Everything
/// else is noticed.
bool is_beyond_notice(const Reader& reader, const std::string& bytes, std::size_t at,
                      const std::vector<std::string>& changed) {
  // Another program's safetensors file has no sum: one element of one tensor, or a name, which a
  // model then misses.
  if (reader.file == "expected.safetensors")
    return changed.size() == 1 &&
           (at >= header_end(bytes) || bytes.find("expected") == std::string::npos);
  // A number or a switch of adapter_config.json that no tensor's shape depends on.
  if (reader.file == "adapter_config.json")
    return std::all_of(changed.begin(), changed.end(), [](const std::string& line) {
      return line.find(" scale ") != std::string::npos;
    });
  return false;
}

TEST(BadFiles, FiftyCutsOfEachAreRefused) {
  const TemporaryFolder folder;
  for (const Reader& reader : all_readers(folder.path())) {
    const fs::path copy = copied(reader, folder);
    ASSERT_TRUE(used_or_refused(reader, copy)) << reader.file;
    const std::string bytes = read_text(copy / reader.file);
    for (std::size_t i = 0; i < 50; ++i) {
      const std::size_t length = (bytes.size() - 2) * i / 49;  // a last newline is no loss
      write_text(copy / reader.file, bytes.substr(0, length));
      EXPECT_FALSE(used_or_refused(reader, copy)) << reader.file << " cut to " << length;
    }
  }
}

TEST(BadFiles, AHundredFlippedBytesOfEachAreRefusedOrHarmless) {
  const TemporaryFolder folder;
  for (const Reader& reader : all_readers(folder.path())) {
    const fs::path copy = copied(reader, folder);
    const std::string expected = used_or_refused(reader, copy).value_or("");
    ASSERT_NE(expected, "") << reader.file;
    const std::string bytes = read_text(copy / reader.file);
    int refused = 0, harmless = 0, unseen = 0;
    for (std::size_t i = 0; i < 100; ++i) {
      const std::size_t at = (bytes.size() - 1) * i / 99;
      write_text(copy / reader.file, flipped(bytes, at, i));
      const auto found = used_or_refused(reader, copy);
      if (!found) {
        ++refused;
      } else if (*found == expected) {
        ++harmless;
      } else {
        ++unseen;
        EXPECT_TRUE(is_beyond_notice(reader, bytes, at, changed_lines(expected, *found)))
            << reader.file << " byte " << at << " bit " << i % 8;
      }
    }
    std::printf("%-22s %3d refused, %2d harmless, %2d that nothing in the file can tell\n",
                reader.file.c_str(), refused, harmless, unseen);
    EXPECT_GT(refused, 3) << reader.file;
  }
}

}  // namespace
}  // namespace triphase::fuzz
