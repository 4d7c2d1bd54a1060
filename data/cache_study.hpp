// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>

#include "data/cache_shard.hpp"
#include "data/tokenizer.hpp"

namespace triphase::data {

/// One study as a shard stores it.
struct PreparedStudy {
  ShardRecord record;
  std::vector<std::byte> chunk;
};

/// Reads a study's image, prepares it, tokenizes its report, and packs the voxels.
/// @throws DataError, IoError. Purely local.
[[nodiscard]] PreparedStudy prepare_study(const CachePlan& plan, const StudyRecord& study,
                                          const Tokenizer& tokenizer);

/// Runs `action` on a record of the manifest. @return what is wrong when it throws an error of the
/// study's own (65, 66, 77), unless the plan is strict. Everything else is thrown on, with the
/// study's place: an I/O error may be the disk's, which fails every study.
[[nodiscard]] std::optional<FailedStudy> fault_of_study(
    const CachePlan& plan, std::int64_t record_index,
    const std::function<void(const StudyRecord&)>& action);

}  // namespace triphase::data
