// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace triphase {

/// Calls body(i) once for every i in [0, count) on `num_threads` threads (1: on the caller's). Indices are
/// handed out one by one. The first exception thrown by a body ends the loop and is thrown to the caller.
void parallel_for(std::int64_t count, int num_threads, const std::function<void(std::int64_t)>& body);

/// Cores that this process may use (its affinity mask, then the cgroup's limit).
[[nodiscard]] int available_cores();

}  // namespace triphase
