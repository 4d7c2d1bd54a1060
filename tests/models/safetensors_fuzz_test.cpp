// SPDX-License-Identifier: Apache-2.0
// Damaged files: whatever the bytes, reading ends in tensors or in a CheckpointError.
#include "tests/models/models_test_support.hpp"

#include "base/random.hpp"
#include "models/files/safetensors_header.hpp"

#include <gtest/gtest.h>

namespace triphase::models {
namespace {

/// One to eight bytes changed, cut off, put in or doubled; mostly in the header, which is believed
/// least.
std::string mutated(std::string bytes, KeyedRandom& random) {
  const std::size_t header_end = bytes.find("}}") + 2;
  for (std::uint64_t changes = 1 + random.below(8); changes > 0; --changes) {
    const std::size_t limit =
        random.chance(0.8) ? std::min(header_end, bytes.size()) : bytes.size();
    if (limit == 0) return bytes;
    const auto place = static_cast<std::ptrdiff_t>(random.below(limit));
    const auto begin = bytes.begin() + place;
    switch (random.below(5)) {
      case 0:
        *begin = static_cast<char>(random.below(256));
        break;
      case 1:
        *begin = "0123456789,:[]{}\"-.e"[random.below(20)];
        break;
      case 2:
        bytes.erase(begin, begin + std::min<std::ptrdiff_t>(bytes.end() - begin, 3));
        break;
      case 3:
        bytes.insert(begin, static_cast<char>(random.below(256)));
        break;
      default:
        bytes.insert(static_cast<std::size_t>(place),
                     bytes.substr(static_cast<std::size_t>(place), 9));
    }
  }
  return bytes;
}

TEST(SafetensorsFuzz, DamagedFilesGiveTensorsOrACheckpointError) {
  const triphase::test::TemporaryFolder folder;
  write_safetensors(folder / "x",
                    {{"a", test::normal({2, 3}, 1)},
                     {"b.weight", at::ones({4}, at::kBFloat16)},
                     {"flags", at::ones({5}, at::kBool)},
                     {"count", at::zeros({}, at::kLong)}},
                    {{"format", "pt"}});
  // Without its hash, as another program's file, so that the damage gets past it.
  std::string original = triphase::test::read_text(folder / "x");
  original.replace(original.find(kHashKey), std::string(kHashKey).size(), "another.entry");
  KeyedRandom random{2024};
  int read = 0;
  int refused = 0;
  double sum = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string bytes = mutated(original, random);
    triphase::test::write_text(folder / "y", bytes);
    try {
      for (const auto& [name, tensor] : read_safetensors(folder / "y").tensors)
        sum += static_cast<double>(tensor.numel()) + tensor.to(at::kDouble).sum().item<double>();
      ++read;
    } catch (const CheckpointError& error) {
      ++refused;
      EXPECT_NE(std::string(error.what()).find("y'"), std::string::npos) << error.what();
    }
  }
  EXPECT_EQ(read + refused, 2000);
  EXPECT_GT(read, 5);  // damage in the data alone cannot be seen
  EXPECT_GT(refused, 1000);
}

TEST(SafetensorsFuzz, EveryCutIsNoticed) {
  const triphase::test::TemporaryFolder folder;
  write_safetensors(folder / "x", {{"a", test::normal({2, 3}, 1)}, {"b", at::ones({4})}});
  const std::string original = triphase::test::read_text(folder / "x");
  for (std::size_t length = 0; length < original.size(); ++length) {
    triphase::test::write_text(folder / "y", original.substr(0, length));
    EXPECT_THROW((void)read_safetensors(folder / "y"), CheckpointError) << length;
  }
}

}  // namespace
}  // namespace triphase::models
