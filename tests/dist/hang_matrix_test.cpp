// SPDX-License-Identifier: Apache-2.0
// Every way in which a rank can fail its group, in every collective: the job ends by itself, with the
// right code, one message that names the rank, and no process left.
#include "tests/support/test_support.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <regex>
#include <thread>
#include <vector>

namespace triphase::test {
namespace {

constexpr double kTimeoutSeconds = 1;  // fault_program's
constexpr double kEndsWithinSeconds = kTimeoutSeconds + 5;
constexpr double kKillSeconds = 2;

struct Failure {
  std::string how;
  int exit_code;
  std::string words;  ///< of the message; N stands for the rank
};

const std::vector<Failure> kFailures{
    {"sleeps", 78, "for rank N\\. [^]*rank N on \\S+, process \\d+, is waiting or sleeping"},
    {"is_stopped", 78, "for rank N\\. [^]*rank N on \\S+, process \\d+, is stopped"},
    {"exits_with_0", 71, "rank N left with exit code 0 "},
    {"exits_with_3", 71, "rank N left with exit code 3 "},
    {"is_killed", 71, "rank N was ended by signal 9 "},
    {"throws", 65, "rank N ends the job: the volume is cut short"}};
const std::vector<std::string> kOperations{"all_reduce",   "all_gather", "reduce_scatter", "broadcast",
                                           "send_receive", "barrier",    "split",          "gather_texts"};

struct Job {
  std::string operation;
  Failure failure;
  int num_ranks;
  int culprit;
};

double steady_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A process that has ended and that nobody has asked for is no longer running.
bool is_running(const std::string& process) {
  std::ifstream file("/proc/" + process + "/stat");
  std::string line;
  std::getline(file, line);
  const std::size_t name_end = line.rfind(')');
  return name_end != std::string::npos && line[name_end + 2] != 'Z' && line[name_end + 2] != 'X';
}

std::vector<std::string> left_over(const std::string& output) {
  static const std::regex line("processes (\\d+) (\\d+)");
  std::vector<std::string> found;
  for (auto at = std::sregex_iterator(output.begin(), output.end(), line); at != std::sregex_iterator();
       ++at)
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}})
      if (is_running((*at)[i])) found.push_back((*at)[i]);
  return found;
}

std::size_t count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return static_cast<std::size_t>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), regex), std::sregex_iterator()));
}

/// What is wrong with how the job ended, or nothing.
std::string check(const Job& job, const CommandResult& result, double end_seconds, double& took) {
  std::string wrong;
  if (result.exit_code != job.failure.exit_code)
    wrong += str("exit code ", result.exit_code, ", expected ", job.failure.exit_code, "\n");
  const std::string rank = std::to_string(job.culprit);
  const std::string words = std::regex_replace(job.failure.words, std::regex("N"), rank);
  if (count(result.output, words) != 1) wrong += "not once: " + words + "\n";
  const std::size_t messages = count(result.output, "ends the job: |triphase \\[rank ");
  if (messages != 1) wrong += str(messages, " messages\n");
  if (job.failure.exit_code != 65) {  // place and step, of the waiting ranks or of the rank's last
    const std::string call = job.operation == "gather_texts" ? "all_gather|broadcast" : job.operation;
    if (count(result.output, "(" + call + ")[^]*matrix: call, step [23]") == 0)
      wrong += "operation, place and step are missing\n";
  }
  std::smatch start;
  if (!std::regex_search(result.output, start, std::regex("goes wrong at ([0-9.]+) s")))
    return wrong + "it did not go wrong";
  took = end_seconds - std::stod(start[1]);
  if (took > kEndsWithinSeconds) wrong += str("ended after ", took, " s\n");
  // Those that mpirun has just killed may still be on their way out.
  while (!left_over(result.output).empty() && steady_now() < end_seconds + kKillSeconds)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (const std::string& process : left_over(result.output)) wrong += "process " + process + " is left\n";
  return wrong;
}

TEST(HangMatrix, EveryFailureInEveryCollectiveEndsTheJobAndIsNamed) {
  std::vector<Job> jobs;
  for (const std::string& operation : kOperations)
    for (const Failure& failure : kFailures) {
      const int num_ranks = jobs.size() % 2 == 0 ? 3 : 2;
      jobs.push_back({operation, failure, num_ranks, static_cast<int>(jobs.size() / 2) % num_ranks});
    }
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> num_right{0};
  std::mutex mutex;
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++) {
      const Job& job = jobs[i];
      const CommandResult result =
          run_command(str("timeout -k 5 60 " MPIEXEC " -np ", job.num_ranks, " " FAULT_PROGRAM " ",
                          job.failure.how, " ", job.operation, " ", job.culprit));
      double took = 0;
      const std::string wrong = check(job, result, steady_now(), took);
      const std::lock_guard lock(mutex);
      std::printf("%-14s %-13s rank %d of %d  exit %3d  %5.2f s  %s\n", job.operation.c_str(),
                  job.failure.how.c_str(), job.culprit, job.num_ranks, result.exit_code, took,
                  wrong.empty() ? "as it should" : "WRONG");
      EXPECT_EQ(wrong, "") << job.operation << " " << job.failure.how << "\n" << result.output;
      if (wrong.empty()) ++num_right;
    }
  };
  {
    std::vector<std::jthread> workers;
    for (int i = 0; i < 3; ++i) workers.emplace_back(work);
  }
  std::printf("%zu of %zu\n", num_right.load(), jobs.size());
}

}  // namespace
}  // namespace triphase::test
