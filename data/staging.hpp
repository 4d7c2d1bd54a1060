// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace triphase::data {

/// What copying a cache's shards to another disk did.
struct StagingReport {
  std::filesystem::path folder;  ///< where the copies are, for Cache
  std::int64_t num_staged = 0;   ///< shards that lie there now
  std::int64_t num_copied = 0;   ///< of these, by this call
  std::int64_t num_shards = 0;   ///< of the cache
  std::int64_t bytes_copied = 0;
  std::string warning;  ///< why some shards are not there; "" when all are
};

/// Where the copies of a cache's shards lie below staging_dir: a folder of its own for each content.
/// @throws DataError (66) when there is no cache
[[nodiscard]] std::filesystem::path staging_folder(const std::filesystem::path& cache,
                                                   const std::filesystem::path& staging_dir);

/// Copies the shards that are not there yet, one after another: under another name, flushed, read
/// back and compared by xxh3, renamed. So a call that was stopped is gone on with, shard by shard.
/// Where the disk is full, refuses, or gives back other bytes, copying ends with a warning and the
/// rest is read from the cache; likewise while another job copies there. Calls after_piece after
/// each few MB, and lets pass what that throws. Purely local.
/// @throws DataError, IoError when the cache cannot be read
[[nodiscard]] StagingReport stage_shards(const std::filesystem::path& cache,
                                         const std::filesystem::path& staging_dir,
                                         const std::function<void()>& after_piece);

}  // namespace triphase::data
