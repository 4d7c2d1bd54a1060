// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <system_error>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/dicom/dicom.hpp"

namespace triphase::data {

std::vector<std::filesystem::path> files_of_series(const std::filesystem::path& folder) {
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, std::filesystem::is_directory(folder), "there is no folder '",
                      folder.string(), "'.");
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->is_regular_file()) files.push_back(entry->path());
  if (error) throw io_error(str("cannot list '", folder.string(), "'"), error.value());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace triphase::data
