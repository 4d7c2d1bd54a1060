// SPDX-License-Identifier: Apache-2.0
#include "data/scan_source.hpp"

#include <algorithm>
#include <vector>

#include "base/hash.hpp"
#include "data/cache_index.hpp"
#include "data/dicom/dicom.hpp"
#include "data/nifti.hpp"

namespace triphase::data {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> files_of_scan(const fs::path& image) {
  return fs::is_directory(image) ? files_of_series(image) : nifti_files(image);
}

}  // namespace

std::int64_t scan_bytes(const fs::path& image) {
  std::int64_t bytes = 0;
  for (const fs::path& file : files_of_scan(image))
    bytes += static_cast<std::int64_t>(fs::file_size(file));
  return bytes;
}

std::int64_t scan_mtime_ns(const fs::path& image) {
  std::int64_t latest = 0;
  for (const fs::path& file : files_of_scan(image))
    latest = std::max(latest, modification_time_ns(file));
  return latest;
}

std::uint64_t hash_scan(const fs::path& image) {
  std::vector<std::uint64_t> hashes;
  for (const fs::path& file : files_of_scan(image)) hashes.push_back(hash_file(file));
  return hashes.size() == 1 ? hashes.front() : xxh3(std::as_bytes(std::span(hashes)));
}

}  // namespace triphase::data
