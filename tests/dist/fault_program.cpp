// SPDX-License-Identifier: Apache-2.0
// A program in which one rank goes wrong in the way named on the command line; started by
// faults_test.cpp and hang_matrix_test.cpp.
//   fault_program HOW [OPERATION CULPRIT]
//   fault_program places      all goes well: each rank tells where it is
#include "dist/collective_place.hpp"
#include "dist/runtime.hpp"
#include "dist/supervisor.hpp"

#include <ATen/ops/zeros.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace triphase;

void sum_something(dist::ProcessGroup& group, std::int64_t count = 4) {
  static_cast<void>(group.all_reduce(at::zeros({count}), dist::ReduceOp::kSum)->wait());
}

void go_wrong_around_sums(const std::string& how, dist::Runtime& runtime) {
  dist::ProcessGroup& world = runtime.world();
  const bool is_culprit = runtime.rank() == 1;
  sum_something(world);
  if (how == "late" && is_culprit) std::this_thread::sleep_for(std::chrono::seconds(60));
  if (how == "late_in_part") {
    const auto part = world.split(runtime.rank() == 2 ? 1 : 0, 0);  // ranks 0 and 1
    if (is_culprit) std::this_thread::sleep_for(std::chrono::seconds(60));
    sum_something(*part);
  }
  if (how == "late_in_agreement")
    dist::agree_on(world, [&] {
      if (is_culprit) std::this_thread::sleep_for(std::chrono::seconds(60));
      sum_something(world);
    });
  if (how == "throws" && is_culprit) throw DataError("the volume is cut short");
  if (how == "crashes" && is_culprit) std::raise(SIGSEGV);
  if (how == "agreed")
    dist::agree_on(world, [&] {
      if (is_culprit) throw DataError("the volume is cut short", ExitCode::kMissingInput);
    });
  sum_something(world, how == "disagrees" && is_culprit ? 5 : 4);
}

void fail(const std::string& how) {
  std::printf("goes wrong at %.3f s\n", dist::steady_seconds());
  std::fflush(stdout);
  if (how == "sleeps")
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(60));
  if (how == "exits_with_0") std::exit(0);
  if (how == "exits_with_3") std::exit(3);
  if (how == "throws") throw DataError("the volume is cut short");
  if (how == "is_stopped") std::raise(SIGSTOP);
  if (how == "is_killed") std::raise(SIGKILL);
}

void call(const std::string& operation, dist::ProcessGroup& group) {
  const int n = group.num_ranks();
  at::Tensor rows = at::zeros({2 * n, 3});
  if (operation == "all_reduce") static_cast<void>(group.all_reduce(rows, dist::ReduceOp::kSum));
  if (operation == "all_gather") static_cast<void>(group.all_gather(rows));
  if (operation == "reduce_scatter") static_cast<void>(group.reduce_scatter(rows));
  if (operation == "broadcast") static_cast<void>(group.broadcast(rows, n - 1));
  if (operation == "send_receive")
    static_cast<void>(
        group.send_receive(rows, (group.rank() + 1) % n, (group.rank() + n - 1) % n));
  if (operation == "barrier") group.barrier();
  if (operation == "split") static_cast<void>(group.split(0, 0));
  if (operation == "gather_texts") static_cast<void>(dist::gather_texts(group, {"a", "b"}));
}

void go_wrong_in(const std::string& operation, const std::string& how, int culprit,
                 dist::Runtime& runtime) {
  std::printf("processes %d %d\n", static_cast<int>(getpid()), static_cast<int>(getppid()));
  std::fflush(stdout);
  for (std::int64_t step = 1; step <= 3; ++step) {
    const dist::CollectivePlace place("matrix: call", step);
    if (step == 3 && runtime.rank() == culprit) fail(how);
    call(operation, runtime.world());
  }
}

/// As a program's main does it: errors are caught while the Runtime lives.
int run(const std::vector<std::string>& words, const dist::SharedRecord& record) {
  dist::Runtime runtime({.timeout_seconds = 1, .record = record});
  try {
    if (words[0] == "places")
      std::printf("rank %d of %d is on %s, %d of %d there\n", runtime.rank(), runtime.num_ranks(),
                  runtime.host().c_str(), runtime.local_rank(), runtime.local_num_ranks());
    else if (words.size() == 3)
      go_wrong_in(words[1], words[0], std::stoi(words[2]), runtime);
    else
      go_wrong_around_sums(words[0], runtime);
  } catch (const dist::AgreedError& error) {
    std::printf("rank %d leaves: %s\n", runtime.rank(), error.what());
    return static_cast<int>(error.exit_code());
  } catch (const Error& error) {
    runtime.end_job(error, [&] {
      std::printf("rank %d ends the job: %s\n", runtime.rank(), error.what());
    });
  }
  return 0;
}

/// As a program must not do it: the exception passes through the Runtime.
int run_unwound(const dist::SharedRecord& record) {
  try {
    dist::Runtime runtime({.timeout_seconds = 5, .record = record});
    go_wrong_around_sums("throws", runtime);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    return static_cast<int>(error.exit_code());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  return dist::supervise([&](const dist::SharedRecord& record) {
    return words[0] == "unwound" ? run_unwound(record) : run(words, record);
  });
}
