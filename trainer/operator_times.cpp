// SPDX-License-Identifier: Apache-2.0
#include "trainer/operator_times.hpp"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>

#include "base/error.hpp"

namespace triphase::trainer {
namespace {

using Clock = std::chrono::steady_clock;

/// A running operator. Those of one thread nest: each ends before the one that called it.
struct Running : at::ObserverContext {
  Clock::time_point begin = Clock::now();
  double seconds_of_called = 0;
  Running* caller = nullptr;
};

thread_local Running* innermost = nullptr;

struct Seen {
  std::mutex mutex;
  std::map<std::string, OperatorTime> by_name;
};

// LibTorch takes plain functions as callbacks: no object can be handed to them.
Seen& seen() {
  static Seen all;
  return all;
}

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction&) {
  auto running = std::make_unique<Running>();
  running->caller = innermost;
  innermost = running.get();
  return running;
}

void on_end(const at::RecordFunction& function, at::ObserverContext* context) {
  auto* running = static_cast<Running*>(context);
  const double seconds =
      std::chrono::duration<double>(Clock::now() - running->begin).count();
  innermost = running->caller;
  if (innermost != nullptr) innermost->seconds_of_called += seconds;
  const std::lock_guard lock(seen().mutex);
  OperatorTime& time = seen().by_name[function.name()];
  ++time.calls;
  time.seconds += seconds - running->seconds_of_called;
}

}  // namespace

struct OperatorTimes::State {
  at::CallbackHandle handle;
};

OperatorTimes::OperatorTimes() {
  clear();
  state_ = std::make_unique<State>(State{at::addGlobalCallback(
      at::RecordFunctionCallback(on_begin, on_end).scopes({at::RecordScope::FUNCTION}))});
}

OperatorTimes::~OperatorTimes() { at::removeCallback(state_->handle); }

void OperatorTimes::clear() {
  const std::lock_guard lock(seen().mutex);
  seen().by_name.clear();
}

std::vector<OperatorTime> OperatorTimes::times() const {
  std::vector<OperatorTime> times;
  const std::lock_guard lock(seen().mutex);
  for (const auto& [name, time] : seen().by_name) {
    times.push_back(time);
    times.back().name = name;
  }
  std::stable_sort(times.begin(), times.end(), [](const OperatorTime& a, const OperatorTime& b) {
    return a.seconds > b.seconds;
  });
  return times;
}

}  // namespace triphase::trainer
