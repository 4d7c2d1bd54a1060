// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/file.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::models {

/// One file inside an archive. The name lies in the archive's own memory.
struct ZipEntry {
  std::string_view name;
  std::int64_t header_begin = 0;  ///< of the header before its bytes, from the archive's first byte
  std::int64_t begin = 0;         ///< of its bytes, from the archive's first byte
  std::int64_t size = 0;          ///< bytes
  std::uint32_t crc32 = 0;
};

/// Lists a zip archive whose files are stored, as torch.save writes it: 32- or 64-bit records, no
/// comment, the end record last. Refused: compressed or encrypted files, absolute names and names
/// with '..', a name twice, files that overlap one another or the directory, and a directory that
/// disagrees with the headers before the files. After this every entry lies inside the archive; its
/// bytes are not looked at. Source: PKWARE's APPNOTE 6.3.10, sections 4.3.7 to 4.3.16, 4.4.4
/// and 4.5.3.
/// @param source names the file in messages
/// @throws CheckpointError
[[nodiscard]] std::vector<ZipEntry> list_stored_zip(std::span<const std::byte> archive,
                                                    const std::string& source);

/// Reads an entry's bytes once and compares their CRC-32. @throws CheckpointError naming the entry
void check_crc32(const MappedFile& archive, const ZipEntry& entry, const std::string& source);

inline constexpr std::uint64_t kMaxZipEntries = 65'536;

}  // namespace triphase::models
