// SPDX-License-Identifier: Apache-2.0
// Input: four bytes that say how many bytes are wanted (little-endian, at most 1 MiB), then a gzip
// file. What comes out must be that long and begin as its prefix does.
#include <algorithm>
#include <cstring>
#include <string>

#include "data/gunzip.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  constexpr std::uint32_t kMostWanted = std::uint32_t{1} << 20;
  constexpr std::size_t kPrefix = 64;
  std::uint32_t wanted = 0;
  const std::size_t begin = std::min(size, sizeof(wanted));
  if (begin > 0) std::memcpy(&wanted, data, begin);
  const std::size_t count = std::min(wanted, kMostWanted);
  const auto file = std::as_bytes(std::span(data, size)).subspan(begin);
  fuzz::expect_clean_end([&] {
    const data::ByteBuffer whole =
        data::gunzip(file, static_cast<std::int64_t>(count), "scan.nii.gz");
    const std::vector<std::byte> prefix =
        data::gunzip_prefix(file, std::min(count, kPrefix), "scan.nii.gz");
    fuzz::require(whole.bytes().size() == count, "as many bytes come out as were asked for");
    fuzz::require(prefix.size() == std::min(count, kPrefix) &&
                      std::equal(prefix.begin(), prefix.end(), whole.bytes().begin()),
                  "a file begins with its prefix");
  });
  return 0;
}
