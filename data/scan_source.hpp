// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace triphase::data {

/// Whether the files of a scan (one, the two of a .hdr/.img pair, or all of a DICOM series' folder) are those that were cached.
/// @throws DataError when a file is missing; IoError. Purely local.
[[nodiscard]] std::int64_t scan_bytes(const std::filesystem::path& image);
/// The latest modification. @throws as scan_bytes()
[[nodiscard]] std::int64_t scan_mtime_ns(const std::filesystem::path& image);
/// xxh3 of the content; of several files, of their hashes. @throws as scan_bytes()
[[nodiscard]] std::uint64_t hash_scan(const std::filesystem::path& image);

}  // namespace triphase::data
