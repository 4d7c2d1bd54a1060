// SPDX-License-Identifier: Apache-2.0
// A program in which rank 1 goes wrong in the way named on the command line; started by
// faults_test.cpp.
#include "dist/runtime.hpp"

#include <ATen/ops/zeros.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

namespace {

using namespace triphase;

void sum_something(dist::ProcessGroup& group, std::int64_t count = 4) {
  static_cast<void>(group.all_reduce(at::zeros({count}), dist::ReduceOp::kSum)->wait());
}

void go_wrong(const std::string& how, dist::Runtime& runtime) {
  dist::ProcessGroup& world = runtime.world();
  const bool is_culprit = runtime.rank() == 1;
  sum_something(world);
  if (how == "late" && is_culprit) std::this_thread::sleep_for(std::chrono::seconds(60));
  if (how == "late_in_part") {
    const auto part = world.split(runtime.rank() == 2 ? 1 : 0, 0);  // ranks 0 and 1
    if (is_culprit) std::this_thread::sleep_for(std::chrono::seconds(60));
    sum_something(*part);
  }
  if (how == "killed" && is_culprit) std::raise(SIGKILL);
  if (how == "throws" && is_culprit) throw DataError("the volume is cut short");
  if (how == "agreed")
    dist::agree_on(world, [&] {
      if (is_culprit) throw DataError("the volume is cut short", ExitCode::kMissingInput);
    });
  sum_something(world, how == "disagrees" && is_culprit ? 5 : 4);
}

/// As a program's main does it: errors are caught while the Runtime lives.
int run(const std::string& how) {
  dist::RuntimeOptions options;
  options.timeout_seconds = 1;
  dist::Runtime runtime(options);
  try {
    go_wrong(how, runtime);
  } catch (const dist::AgreedError& error) {
    std::printf("rank %d leaves: %s\n", runtime.rank(), error.what());
    return static_cast<int>(error.exit_code());
  } catch (const Error& error) {
    std::printf("rank %d ends the job: %s\n", runtime.rank(), error.what());
    runtime.end_job(error.exit_code());
  }
  return 0;
}

/// As a program must not do it: the exception passes through the Runtime.
int run_unwound() {
  try {
    dist::RuntimeOptions options;
    options.timeout_seconds = 5;
    dist::Runtime runtime(options);
    go_wrong("throws", runtime);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    return static_cast<int>(error.exit_code());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  return how == "unwound" ? run_unwound() : run(how);
}
