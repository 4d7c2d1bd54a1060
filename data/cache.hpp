// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/manifest.hpp"
#include "data/preprocess.hpp"
#include "data/report_text.hpp"

namespace triphase::data {

/// How chunks are stored. kZstd: bytes shuffled by their place in a voxel, then one zstd frame; HDF5's
/// filters "shuffle" and 32015, which h5py reads with the package hdf5plugin.
enum class Compression { kNone, kZstd };
[[nodiscard]] std::string compression_name(Compression compression);  ///< "none", "zstd"
[[nodiscard]] Compression compression_from_name(const std::string& name);  ///< @throws ConfigError

/// What decides a cache's content. Its text is hashed into every shard (`spec_hash`).
struct CacheSpec {
  PreprocessOptions preprocess;
  std::string tokenizer_hash;
  std::int64_t max_text_tokens = 1024;
  TextPreparation text_preparation = TextPreparation::kWordPunct;
  Compression compression = Compression::kNone;
  /// Canonical JSON of everything above plus the format's version. The usual text preparation and
  /// no compression are not written: caches from before there was another keep their hash.
  [[nodiscard]] std::string text() const;
  /// hex xxh3 of text().
  [[nodiscard]] std::string hash() const;
};

struct CacheBuildOptions {
  std::filesystem::path manifest;
  std::filesystem::path out_dir;
  std::filesystem::path tokenizer_dir;  ///< vocab.json, merges.txt
  PreprocessOptions preprocess;
  std::int64_t max_text_tokens = 1024;
  TextPreparation text_preparation = TextPreparation::kWordPunct;
  Compression compression = Compression::kNone;
  std::int64_t shard_bytes = std::int64_t{4} << 30;  ///< target size of one shard's volumes, uncompressed
  int num_threads = 1;                               ///< per rank
  bool is_strict = false;  ///< one study that cannot be cached ends the build
};

/// A study that is left out because its image or report cannot be read.
struct FailedStudy {
  std::int64_t record_index = 0;  ///< into the manifest
  std::string id;
  std::int64_t line = 0;  ///< of the manifest
  std::string reason;     ///< without the image's path
};

/// A shard that a build has to write, or finds as it should be.
struct ShardTask {
  std::string file_name;                     ///< "shard-00000.h5"
  std::vector<std::int64_t> record_indices;  ///< into the manifest, in order
  bool up_to_date = false;
};

/// What a build will do, from the manifest and what lies in out_dir.
struct CachePlan {
  Manifest manifest;
  CacheSpec spec;
  CacheBuildOptions options;
  std::int64_t volumes_per_shard = 0;  ///< the last shard may hold fewer
  std::vector<ShardTask> shards;
  std::vector<FailedStudy> failed;  ///< studies that shards which are up to date rightly lack
  [[nodiscard]] std::int64_t num_stale_volumes() const;
};

/// Reads the manifest, checks that every image is there (strict) or any, and divides the records
/// into shards; all count as stale. `min_shards`: at least so many (as far as there are records), so that every rank
/// has work; the division of an earlier build under the same specification is kept. Purely local.
/// @throws ConfigError, DataError
[[nodiscard]] CachePlan divide_manifest(const CacheBuildOptions& options, std::int64_t min_shards);

/// Divides a plan's records anew; all shards count as stale.
void divide_into_shards(CachePlan& plan, std::int64_t volumes_per_shard);

/// Looks which of this rank's shards (those with i % num_ranks == rank) already lie in out_dir,
/// with just these studies under just this specification (report, labels, split; size, modification
/// time and, where that differs, content hash of each image), and marks them. A study that an
/// earlier build left out is tried again: only where it can be cached now the shard is stale. Calls
/// after_study at least once for each study looked at. All ranks look before any builds. Purely
/// local.
/// @throws DataError (66) when the image of a study is gone that a shard holds; IoError
void find_up_to_date_shards(CachePlan& plan, int rank, int num_ranks,
                            const std::function<void()>& after_study);

/// All of the above, for one rank alone.
[[nodiscard]] CachePlan plan_cache_build(const CacheBuildOptions& options, std::int64_t min_shards);

/// Writes this rank's share of the stale shards (task i belongs to rank i % num_ranks among the
/// stale ones): read, preprocess, tokenize; `.part`, fsync, rename. `on_volume` is called after
/// each volume, cached or not, from any thread. Purely local: the caller agrees on success over the
/// ranks afterwards.
/// @return the studies that were left out
/// @throws DataError naming line, id and path of the bad record (strict); IoError
std::vector<FailedStudy> build_cache_shards(const CachePlan& plan, int rank, int num_ranks,
                                            const std::function<void()>& on_volume);

/// What a finished cache holds.
struct CacheTotals {
  std::int64_t num_volumes = 0;
  std::int64_t num_shards = 0;
  std::int64_t bytes = 0;  ///< of all shards
};

/// Writes cache.json (spec, findings, counts, what was left out, file hashes) and deletes leftovers
/// (`*.part`, shards that are no part of the plan). Called on one rank, after all ranks have built,
/// with all that they left out (plan.failed is added). Calls after_shard after each shard.
/// @throws DataError when no study could be cached; IoError
CacheTotals finish_cache(
    const CachePlan& plan, std::vector<FailedStudy> failed = {},
    const std::function<void()>& after_shard = [] {});

/// One sample's facts, without its voxels.
struct CacheEntry {
  std::string id;
  std::string patient_id;
  std::string site;
  std::string split;
  std::string report_group{};        ///< samples of one name share their report; empty: its own
  std::vector<std::int64_t> tokens;  ///< with both specials, no padding
  std::vector<std::int8_t> labels;   ///< one per finding; -1 unknown
  Affine affine{};
};

/// A cache opened for reading. Facts of all samples are in memory; voxels are read one chunk at a
/// time by positional reads outside HDF5, checked against their xxh3, and converted to float32.
class Cache {
 public:
  /// @param staging a folder with copies of some shards (see stage_shards), which are read instead;
  ///        empty: none
  /// @throws DataError (66) when there is no cache.json; (65) when a shard is missing, damaged, or
  ///         was built under another specification than cache.json says
  explicit Cache(const std::filesystem::path& folder, const std::filesystem::path& staging = {});
  ~Cache();
  Cache(Cache&&) noexcept;
  Cache& operator=(Cache&&) noexcept;

  [[nodiscard]] const CacheSpec& spec() const;
  [[nodiscard]] const std::vector<std::string>& findings() const;
  [[nodiscard]] const std::vector<FailedStudy>& left_out() const;  ///< by the build, by record_index
  [[nodiscard]] const std::vector<CacheEntry>& entries() const;
  [[nodiscard]] const std::filesystem::path& folder() const;
  /// hex xxh3 over spec and, for each sample, who it is, tokens, labels and chunk hash: which data
  /// a run saw.
  [[nodiscard]] const std::string& data_hash() const;
  /// Voxels of sample `index` as float32 [X,Y,Z] into out (volume_shape product floats; of no use
  /// after an error). Safe to call from several threads. @throws DataError naming id, shard and
  /// place when the chunk's hash is wrong; IoError
  void read_volume(std::int64_t index, float* out) const;
  /// The same rounded to bfloat16 (to nearest, ties to even), as its bits.
  void read_volume(std::int64_t index, std::uint16_t* out) const;
  /// The text of every sample's report, read from the shards anew: a run does not keep them.
  /// @throws DataError, IoError
  [[nodiscard]] std::vector<std::string> read_reports() const;
  /// Bytes of a sample's chunk in its shard, and these bytes as they are, unchecked.
  [[nodiscard]] std::int64_t stored_bytes(std::int64_t index) const;
  void read_stored(std::int64_t index, std::byte* out) const;
  /// Indices of the samples of one split ("all": every one), of the given sites (empty: every one).
  /// @throws DataError when none is left, naming the splits and sites there are
  [[nodiscard]] std::vector<std::int64_t> select(const std::string& split,
                                                 const std::vector<std::string>& sites) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Refuses a cache that was built otherwise than this run wants: names the fields that differ.
/// @throws DataError (65)
void check_cache_spec(const Cache& cache, const CacheSpec& wanted);

/// Checks every chunk, and every shard against cache.json. Calls on_volume after each volume, and
/// lets pass what that throws. With several ranks each checks one stretch of the shards, so that
/// their lines joined in rank order are in shard order; but each checks cache.json. Purely local.
/// @return one line for each damaged place, which begins with the file's name and a colon; empty
///         when all is well
/// @throws DataError (66) when there is no cache.json
[[nodiscard]] std::vector<std::string> verify_cache(const std::filesystem::path& folder,
                                                    const std::function<void()>& on_volume,
                                                    int rank = 0, int num_ranks = 1);

}  // namespace triphase::data
