// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

namespace triphase {

/// Calls body(i) once for every i in [0, count) on `num_threads` threads (1: on the caller's).
/// Indices are handed out one by one. The first exception thrown by a body ends the loop and is
/// thrown to the caller.
void parallel_for(std::int64_t count, int num_threads,
                  const std::function<void(std::int64_t)>& body);

/// Cores that this process may use (its affinity mask, then the cgroup's limit).
[[nodiscard]] int available_cores();

/// Whole cores, at least 1, that the control groups named in `membership` (/proc/self/cgroup) grant
/// below `root` (/sys/fs/cgroup): the strictest of the group's and its parents' cpu.max. Nothing:
/// no limit.
[[nodiscard]] std::optional<int> cgroup_cores(const std::filesystem::path& membership,
                                              const std::filesystem::path& root);

}  // namespace triphase
