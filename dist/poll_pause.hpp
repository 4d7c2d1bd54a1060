// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <chrono>
#include <thread>

namespace triphase::dist {

/// Longer than a transfer among ranks that are all there.
inline constexpr double kSpinSeconds = 0.005;

/// Between two looks at something that will be done: spins at first, then sleeps 50 us.
inline void poll_pause(double waited_seconds) {
  if (waited_seconds < kSpinSeconds)
    sched_yield();
  else
    std::this_thread::sleep_for(std::chrono::microseconds(50));
}

}  // namespace triphase::dist
