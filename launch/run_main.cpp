// SPDX-License-Identifier: Apache-2.0
#include "launch/run_main.hpp"

#include "base/config_reader.hpp"
#include "dist/collective_place.hpp"
#include "launch/command.hpp"

#include <cstdio>
#include <exception>
#include <memory>

namespace triphase::launch {
namespace {

constexpr const char* kVersion = "triphase " TRIPHASE_VERSION;

std::string general_help() {
  std::string text =
      "Triphase adapts a pretrained 3-D CT vision-language model to your own CT-report pairs.\n\n"
      "usage: triphase COMMAND [options]        one process\n"
      "       mpirun -np N triphase COMMAND ... several ranks\n\ncommands:\n";
  for (const Command& command : commands()) {
    std::string left = "  " + command.spec.name;
    left.resize(std::max<std::size_t>(left.size() + 2, 22), ' ');
    text += left + command.spec.summary + "\n";
  }
  return text +
         "\nEvery command has --help with an example.\n"
         "exit codes: 0 done, 64 usage or configuration, 65 bad data, 66 missing input, 70 internal,\n"
         "  71 GPU, NCCL or MPI, 73 cannot create output, 74 I/O or disk full, 75 checkpointed: start again,\n"
         "  76 diverged, 77 permission, 78 timeout\n";
}

/// Commands whose names begin with this word, as "cache build" does with "cache".
std::vector<const Command*> commands_under(const std::string& word) {
  std::vector<const Command*> found;
  for (const Command& command : commands())
    if (command.spec.name.starts_with(word + " ")) found.push_back(&command);
  return found;
}

/// Finds the command whose name the first words are, and takes them off.
const Command& find_command(std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    const std::string& name = command.spec.name;
    const std::size_t space = name.find(' ');
    if (space == std::string::npos) {
      if (words[0] == name) {
        words.erase(words.begin());
        return command;
      }
    } else if (words.size() > 1 && words[0] == name.substr(0, space) && words[1] == name.substr(space + 1)) {
      words.erase(words.begin(), words.begin() + 2);
      return command;
    }
    names.push_back(name);
  }
  const bool is_alone = words.size() < 2 || words[1].starts_with('-');
  if (is_alone && !commands_under(words[0]).empty()) {
    std::string list;
    for (const Command* command : commands_under(words[0]))
      list += (list.empty() ? "'" : ", '") + command->spec.name + "'";
    throw ConfigError(str("'", words[0], "' is no command by itself, but the first word of ", list,
                          ". See: triphase ", words[0], " --help"));
  }
  const std::string given = !is_alone ? words[0] + " " + words[1] : words[0];
  const auto near = nearest_word(given, names);
  throw ConfigError(str("unknown command '", given, "'", near ? str(" (did you mean '", *near, "'?)") : "",
                        ". See: triphase --help"));
}

/// Help of one command, or of each command under the first word.
std::string help_of(std::vector<std::string> words) {
  const bool is_alone = words.size() < 2 || words[1].starts_with('-');
  const std::vector<const Command*> group = is_alone ? commands_under(words[0]) : std::vector<const Command*>{};
  if (group.empty()) return help_text(find_command(words).spec);
  std::string text;
  for (const Command* command : group) text += (text.empty() ? "" : "\n") + help_text(command->spec);
  return text;
}

void print_error(const Error& error, int rank, int num_ranks, const std::string& host) {
  std::string where = "triphase";
  if (num_ranks > 1) where += str(" [rank ", rank, "/", num_ranks, " on ", host, "]");
  std::fprintf(stderr, "\n%s: %s\n%s\n", where.c_str(), error.kind().c_str(), error.what());
  std::fflush(stderr);
}

/// Runs one command. Errors that all ranks know of end in an ordinary exit; others end the whole job.
int run_command_agreed(const Command& command, const std::vector<std::string>& words,
                       dist::Runtime& runtime) {
  const auto fail_alone = [&](const Error& error) -> int {
    const auto tell = [&] { print_error(error, runtime.rank(), runtime.num_ranks(), runtime.host()); };
    if (runtime.num_ranks() > 1) runtime.end_job(error, tell);
    tell();
    return static_cast<int>(error.exit_code());
  };
  try {
    const dist::CollectivePlace place(command.spec.name.c_str());
    Action action;
    dist::agree_on(runtime.world(), [&] { action = command.prepare(parse_arguments(command.spec, words), runtime); });
    const ExitCode code = action();
    const dist::CollectivePlace end_place("end of the program");
    runtime.world().barrier();  // what ends MPI waits for every rank, however long
    return static_cast<int>(code);
  } catch (const dist::AgreedError& error) {
    if (runtime.rank() == error.failing_rank())
      print_error(error, runtime.rank(), runtime.num_ranks(), runtime.host());
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    return fail_alone(dist::error_of(error));
  }
}

}  // namespace

int run_main(const std::vector<std::string>& arguments, const dist::SharedRecord& record) {
  std::vector<std::string> words = arguments;
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    std::printf("%s", general_help().c_str());
    return words.empty() ? static_cast<int>(ExitCode::kUsage) : 0;
  }
  if (words[0] == "--version") {
    std::printf("%s\n", kVersion);
    return 0;
  }
  try {
    // Help needs no MPI, so that it works on a login node.
    for (const std::string& word : words) {
      if (word == "--help") {
        std::printf("%s", help_of(words).c_str());
        return 0;
      }
      if (word == "--version") {
        std::printf("%s\n", kVersion);
        return 0;
      }
    }
    dist::Runtime runtime({.record = record});
    const Command* command = nullptr;
    try {
      dist::agree_on(runtime.world(), [&] { command = &find_command(words); });
    } catch (const dist::AgreedError& error) {
      if (runtime.rank() == error.failing_rank())
        print_error(error, runtime.rank(), runtime.num_ranks(), runtime.host());
      return static_cast<int>(error.exit_code());
    }
    return run_command_agreed(*command, words, runtime);
  } catch (const Error& error) {  // before or while the runtime starts
    print_error(error, 0, 1, "");
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    print_error(InternalError(error.what()), 0, 1, "");
    return static_cast<int>(ExitCode::kInternal);
  }
}

}  // namespace triphase::launch
