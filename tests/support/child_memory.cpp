// SPDX-License-Identifier: Apache-2.0
#include "tests/support/child_memory.hpp"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

namespace triphase::test {
namespace {

/// A line of /proc/self/status in MiB.
double status_mib(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  return -1;
}

}  // namespace

double in_child(const std::function<double()>& action) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    double result = -1;
    try {
      result = action();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    const bool is_written = write(ends[1], &result, sizeof result) == sizeof result;
    _exit(is_written ? 0 : 1);
  }
  close(ends[1]);
  double result = -1;
  if (read(ends[0], &result, sizeof result) != sizeof result) result = -1;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? result : -1;
}

double peak_mib_of(const std::function<void()>& action) {
  return in_child([&] {
    malloc_trim(0);  // or the action would find memory that was resident before
    const double before = status_mib("VmRSS");
    action();
    return status_mib("VmHWM") - before;
  });
}

}  // namespace triphase::test
