// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/byte_buffer.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace triphase::data {

/// DEFLATE cannot shrink more than 1032 times; a file that promises more is cut short or hostile.
inline constexpr std::int64_t kMaxInflateRatio = 1100;
/// What may follow the wanted bytes before a stream counts as a bomb.
inline constexpr std::int64_t kMaxInflatedSurplus = std::int64_t{64} << 20;

[[nodiscard]] bool is_gzip(std::span<const std::byte> bytes);

/// The first bytes of what a gzip file holds: `count` of them, or fewer where there are no more.
/// @throws DataError when the stream is damaged before that
[[nodiscard]] std::vector<std::byte> gunzip_prefix(std::span<const std::byte> compressed,
                                                   std::size_t count, const std::string& name);

/// Exactly the first `size` bytes of what a gzip file holds (of one or several members). What follows them
/// is inflated too, so that the checksums are verified, and dropped. The caller has checked `size`.
/// @throws DataError naming `name` when the file is cut short or damaged, or goes on for more than
///         kMaxInflatedSurplus
[[nodiscard]] ByteBuffer gunzip(std::span<const std::byte> compressed, std::int64_t size,
                                const std::string& name);

/// One gzip member without name or time, so that equal bytes give an equal file.
[[nodiscard]] std::string gzip(std::span<const std::byte> bytes, int level);

}  // namespace triphase::data
