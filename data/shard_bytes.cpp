// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/cache_shard.hpp"

namespace triphase::data {

ShardBytes::ShardBytes(const std::filesystem::path& path) : path_(path), file_(open_input(path)) {}

void ShardBytes::read_at(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t count = ::pread(file_.descriptor.get(), out.data(), out.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw io_error(str("cannot read '", path_.string(), "'"), errno);
    TRIPHASE_CHECK(DataError, count > 0, "cache shard '", path_.string(), "' ends at byte ", offset,
                   ", ", out.size(), " bytes early. Run triphase cache build again.");
    out = out.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

std::uint64_t ShardBytes::hash_outside(std::vector<ChunkPlace> chunks) const {
  std::sort(chunks.begin(), chunks.end(),
            [](const ChunkPlace& a, const ChunkPlace& b) { return a.offset < b.offset; });
  StreamingHash hash;
  std::vector<std::byte> buffer(1 << 20);
  const auto hash_range = [&](std::int64_t from, std::int64_t to) {
    while (from < to) {
      const auto count = std::min(to - from, static_cast<std::int64_t>(buffer.size()));
      const std::span<std::byte> piece(buffer.data(), static_cast<std::size_t>(count));
      read_at(from, piece);
      hash.update(std::span<const std::byte>(piece));
      from += count;
    }
  };
  std::int64_t position = 0;
  for (const auto& [offset, bytes] : chunks) {
    TRIPHASE_CHECK(DataError,
                   bytes >= 0 && bytes <= size() && offset >= position && offset <= size() - bytes,
                   "cache shard '", path_.string(), "' has a volume at byte ", offset,
                   ", where it does not fit. Run triphase cache build again.");
    hash_range(position, offset);
    position = offset + bytes;
  }
  hash_range(position, size());
  return hash.digest();
}

}  // namespace triphase::data
