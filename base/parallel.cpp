// SPDX-License-Identifier: Apache-2.0
#include "base/parallel.hpp"

#include "base/error.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace triphase {
namespace {

int affinity_cores() {
  // The mask must be as wide as the kernel's; machines with more than 1024 cores need a wider one.
  for (int width = 1024; width <= 1 << 20; width *= 2) {
    cpu_set_t* const mask = CPU_ALLOC(static_cast<std::size_t>(width));
    if (mask == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(width));
    CPU_ZERO_S(size, mask);
    const int count = sched_getaffinity(0, size, mask) == 0 ? CPU_COUNT_S(size, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

/// Cores that one cpu.max grants, e.g. "150000 100000" (microseconds per period); "max" is no
/// limit. Source: kernel documentation, admin-guide/cgroup-v2, CPU interface files.
std::optional<double> cores_of_limit(const std::filesystem::path& file) {
  std::ifstream in(file);
  double quota = 0;
  double period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

}  // namespace

std::optional<int> cgroup_cores(const std::filesystem::path& membership,
                                const std::filesystem::path& root) {
  std::ifstream lines(membership);
  std::optional<double> fewest;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("0::/")) continue;  // the unified hierarchy
    // Inside a container the path may name folders that are not mounted here; then the root holds.
    for (std::filesystem::path group = line.substr(4);; group = group.parent_path()) {
      const std::optional<double> limit = cores_of_limit(root / group / "cpu.max");
      if (limit && (!fewest || *limit < *fewest)) fewest = limit;
      if (group.empty()) break;
    }
  }
  if (!fewest) return std::nullopt;
  return std::max(1, static_cast<int>(std::min(*fewest, 1e6)));
}

int available_cores() {
  const std::optional<int> limit = cgroup_cores("/proc/self/cgroup", "/sys/fs/cgroup");
  return limit ? std::min(*limit, affinity_cores()) : affinity_cores();
}

void parallel_for(std::int64_t count, int num_threads,
                  const std::function<void(std::int64_t)>& body) {
  TRIPHASE_CHECK(InternalError, num_threads >= 1, "parallel_for needs at least 1 thread, got ",
                 num_threads);
  std::atomic<std::int64_t> next = 0;
  std::atomic<bool> stop = false;
  std::mutex mutex;
  std::exception_ptr first;
  const auto work = [&] {
    try {
      while (!stop) {
        const std::int64_t index = next++;
        if (index >= count) return;
        body(index);
      }
    } catch (...) {
      const std::scoped_lock lock(mutex);
      if (!first) first = std::current_exception();
      stop = true;
    }
  };
  {
    std::vector<std::jthread> threads;  // joined at the end of this block
    const std::int64_t helpers = std::min<std::int64_t>(num_threads, count) - 1;
    try {
      for (std::int64_t i = 0; i < helpers; ++i) threads.emplace_back(work);
    } catch (const std::system_error&) {  // the system gives no more threads: fewer do the work
    }
    work();
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace triphase
