// SPDX-License-Identifier: Apache-2.0
#include "tests/dist/backends.hpp"

#include <exception>
#include <mutex>
#include <thread>

namespace triphase::test {

void run_on_threads(int num_ranks, const RankBody& body, double timeout_seconds) {
  auto groups = dist::make_thread_groups(num_ranks, timeout_seconds);
  std::exception_ptr first;
  std::mutex mutex;
  {
    std::vector<std::jthread> threads;
    for (auto& group : groups)
      threads.emplace_back([&body, &first, &mutex, &group] {
        try {
          body(*group);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        group.reset();
      });
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace triphase::test
