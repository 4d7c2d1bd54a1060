// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/stop_request.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>

#include "base/file.hpp"
#include "trainer/train.hpp"

namespace triphase::trainer {
namespace {

/// A handler can reach nothing but an object of static life.
volatile std::sig_atomic_t stop_flag = 0;

/// Taken before main: what comes before the first step (MPI, data, weights) counts, too.
const std::chrono::steady_clock::time_point kProgramStart = std::chrono::steady_clock::now();

extern "C" void ask_to_stop(int /*signal*/) { stop_flag = 1; }

}  // namespace

bool stop_requested() { return stop_flag != 0; }

double seconds_since_program_start() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - kProgramStart).count();
}

void clear_stop_request() { stop_flag = 0; }

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = ask_to_stop;
  action.sa_flags = SA_RESTART;  // reading and MPI go on; the loop looks at the flag
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGTERM})
    if (sigaction(signal, &action, nullptr) != 0)
      throw io_error("cannot install a signal handler", errno);
}

}  // namespace triphase::trainer
