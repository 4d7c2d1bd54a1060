// SPDX-License-Identifier: Apache-2.0
#include "dist/supervisor.hpp"

#include "base/error.hpp"
#include "dist/launcher.hpp"
#include "dist/node_group.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

// Note [Two processes a rank]
// Open MPI decides the exit code of a job by the first process that ends badly: 137 for one that the
// system killed, 1 for one that leaves with 0 before the others. It also ends the others at once, so
// they cannot tell which rank it was. A parent that does nothing but wait can do both. What it costs is one
// sleeping process a rank, whose memory is shared with the child's until either writes it.

namespace triphase::dist {
namespace {

constexpr std::array kPassedOn{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int signal : kPassedOn) sigaddset(&set, signal);
  return set;
}

bool is_crash(int signal) {
  return signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS || signal == SIGFPE ||
         signal == SIGILL;
}

std::string how_it_ended(int status) {
  if (WIFEXITED(status))
    return str("left with exit code ", WEXITSTATUS(status), " while the others counted on it");
  const int signal = WTERMSIG(status);
  std::string text = str("was ended by signal ", signal, " (", strsignal(signal), ")");
  if (signal == SIGKILL)
    text +=
        ". If nobody killed it, the system did because memory ran out: see dmesg or the queue's own "
        "log, and lower batch.micro_pairs or use precision.recompute = \"blocks\"";
  return text;
}

void tell(const RankRecord& record, int status) {
  const std::string what = how_it_ended(status);
  std::string text = str("\ntriphase [rank ", record.rank(), "/", record.num_ranks(), " on ", host_name(),
                         "]: CommError\nrank ", record.rank(), " ", what, ".\n");
  const auto last = record.entries(1);
  if (!last.empty())
    text += "  its last collective: " + last.back().text(steady_seconds()) + "\n";
  std::fprintf(stderr, "%s", text.c_str());
  std::fflush(stderr);
  record.write_to_log("rank " + std::to_string(record.rank()) + " " + what);
}

/// Waits for the child and hands signals on to it.
int wait_for(pid_t child, const sigset_t& watched, std::array<bool, NSIG>& passed_on) {
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) return status;
    const int signal = sigwaitinfo(&watched, nullptr);
    if (signal <= 0 || signal == SIGCHLD) continue;
    passed_on[static_cast<std::size_t>(signal)] = true;
    kill(child, signal);
  }
}

[[noreturn]] void end_by(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  std::signal(signal, SIG_DFL);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal);
  _exit(128 + signal);  // a signal that does not end a process
}

int exit_code_of(int status, const RankRecord& record, const std::array<bool, NSIG>& passed_on) {
  const bool is_missed = record.phase() == RankRecord::Phase::kRunning;
  if (WIFEXITED(status) && !is_missed) return WEXITSTATUS(status);
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    // Ended from outside, as mpirun ends ranks: whoever did it knows.
    if (passed_on[static_cast<std::size_t>(signal)]) end_by(signal);
    tell(record, status);
    return static_cast<int>(is_crash(signal) ? ExitCode::kInternal : ExitCode::kCommunication);
  }
  tell(record, status);
  return static_cast<int>(ExitCode::kCommunication);
}

}  // namespace

int supervise(const std::function<int(SharedRecord record)>& program) {
  const SharedRecord record = make_shared_record();
  // Without shared memory there would be nothing to tell.
  if (find_launcher(process_environment).num_ranks == 1 || record.descriptor < 0)
    return program(record);
  const sigset_t watched = watched_signals();
  sigset_t before;
  sigprocmask(SIG_BLOCK, &watched, &before);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) {
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return program(record);
  }
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(static_cast<int>(ExitCode::kCommunication));
    sigprocmask(SIG_SETMASK, &before, nullptr);
    return program(record);
  }
  std::array<bool, NSIG> passed_on{};
  const int status = wait_for(child, watched, passed_on);
  return exit_code_of(status, *record.record, passed_on);
}

}  // namespace triphase::dist
