// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace triphase::fuzz {

/// What may be brought in one file of a folder, and what of it the program then works with.
struct Reader {
  std::string name;             ///< as the corpus's folder
  std::filesystem::path valid;  ///< a folder with a whole set of files
  std::string file;             ///< the one of them that is damaged
  /// Everything that is used of the folder's files as text, without exception: equal texts mean
  /// that no harm was done.
  std::function<std::string(const std::filesystem::path& folder)> use;
};

/// safetensors (Python's and Triphase's own), .pt, adapter_config.json, vocab.json and merges.txt.
/// Valid files are in tests/golden; Triphase's own is written to `scratch`.
[[nodiscard]] std::vector<Reader> all_readers(const std::filesystem::path& scratch);

/// What the reader makes of the folder, or nothing when it refuses it with exit code 65 and a
/// message that names the file or folder; anything else fails the test.
[[nodiscard]] std::optional<std::string> used_or_refused(const Reader& reader,
                                                         const std::filesystem::path& folder);

}  // namespace triphase::fuzz
