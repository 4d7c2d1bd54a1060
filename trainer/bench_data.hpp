// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "dist/process_group.hpp"

#include <cstdint>
#include <string>

namespace triphase::trainer {

struct DataBenchmarkOptions {
  std::string cache;
  std::int64_t batch_size = 8;  ///< samples per rank
  int num_workers = 1;
  std::int64_t passes = 3;             ///< over at most max_volumes of a rank's samples
  std::int64_t max_volumes = 64;
  double step_seconds_per_volume = 0.1;  ///< how long a step is made to take
  std::int64_t steps = 10;
};

/// What reading a cache costs; every rank has its own samples, and the slowest rank's figure counts:
/// - pread, read: median milliseconds of fetching a volume's bytes by pread() alone, and of
///   Cache::read_volume() (fetched, checked, made float32), in turn on one thread, after one pass
///   that is not counted; read_over_pread: the ratio of their speeds.
/// - loader: every sample once through BatchLoader, as fast as it can.
/// - wait: share of the time that a training waits for its data when each step keeps a core of the
///   rank busy for as long as was asked; first_wait_seconds: for the first batch, which is not in the
///   share.
/// Collective over group. @throws DataError when there is no cache, or it is damaged
[[nodiscard]] Json bench_data(const DataBenchmarkOptions& options, dist::ProcessGroup& group);

}  // namespace triphase::trainer
