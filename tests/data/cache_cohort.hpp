// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/cache.hpp"
#include "tests/support/test_support.hpp"

#include <map>
#include <string>
#include <vector>

namespace triphase::test {

/// A few small scans with a manifest and a tokenizer, made up and written to a folder of their own; and a
/// folder for the cache beside them.
class CacheCohort {
 public:
  /// Scans of about 12x10x8 voxels; every third study is the second one of its patient.
  explicit CacheCohort(std::int64_t num_studies);

  [[nodiscard]] data::CacheBuildOptions options() const;
  [[nodiscard]] std::filesystem::path cache() const { return folder_ / "cache"; }
  [[nodiscard]] std::filesystem::path image(std::int64_t study) const;
  [[nodiscard]] const TemporaryFolder& folder() const { return folder_; }
  /// One line of the manifest, without its id: change it, then write_manifest().
  std::vector<std::string>& rows() { return rows_; }
  void write_manifest() const;
  void write_image(std::int64_t study, std::uint64_t seed) const;
  void cut_image(std::int64_t study) const;  ///< to half its bytes
  /// Deletes what lies in the cache's folder.
  void empty_cache() const;

  /// Plans and builds on so many ranks, one after another, and finishes. @return volumes that were built, without
  /// studies that were left out
  std::int64_t build(const data::CacheBuildOptions& options, int num_ranks = 1) const;
  std::int64_t build() const { return build(options()); }

 private:
  TemporaryFolder folder_;
  std::vector<std::string> rows_;
};

/// The cache's grid in these tests.
[[nodiscard]] data::PreprocessOptions small_grid(data::Storage storage = data::Storage::kUint16);
/// Every file of a folder, by name.
[[nodiscard]] std::map<std::string, std::string> files_in(const std::filesystem::path& folder);
[[nodiscard]] std::vector<float> read_volume(const data::Cache& cache, std::int64_t index);

}  // namespace triphase::test
