// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/stage_data.hpp"

#include "data/staging.hpp"
#include "dist/agree_during.hpp"

#include <algorithm>
#include <chrono>

namespace triphase::trainer {

std::filesystem::path stage_on_nodes(const RunConfig& config, dist::ProcessGroup& group,
                                     dist::ProcessGroup& node, Logger& log) {
  if (config.data.staging_dir.empty() || config.data.cache.empty()) return {};
  const auto start = std::chrono::steady_clock::now();
  std::filesystem::path folder;
  data::StagingReport report;
  const double round_seconds = std::min(20.0, config.distributed.timeout_seconds / 20);
  dist::agree_during(group, round_seconds, [&](const std::function<void()>& after_piece) {
    folder = data::staging_folder(config.data.cache, config.data.staging_dir);
    if (node.rank() == 0)
      report = data::stage_shards(config.data.cache, config.data.staging_dir, after_piece);
  });
  if (node.rank() != 0) return folder;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  log.info("staged shards=", report.num_staged, " of=", report.num_shards,
           " copied=", report.num_copied, " bytes=", report.bytes_copied,
           " seconds=", took.count());
  if (!report.warning.empty())
    log.warning(report.num_shards - report.num_staged, " of ", report.num_shards,
                " shards are read from '", config.data.cache, "': ", report.warning);
  return folder;
}

}  // namespace triphase::trainer
