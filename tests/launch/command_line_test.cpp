// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"
#include "launch/command_line.hpp"
#include "launch/run_main.hpp"
#include "tests/support/test_support.hpp"

#include <set>

namespace triphase::launch {
namespace {

CommandSpec example() {
  return {.name = "paint",
          .summary = "paints",
          .example = "  triphase paint --colour red",
          .options = {{"colour", "NAME", "which", true},
                      {"coats", "N", "how often"},
                      {"set", "K=V", "one value", false, true},
                      {"dry", "", "a flag"}},
          .positional_name = "WALL",
          .min_positionals = 0,
          .max_positionals = 1};
}

TEST(CommandLine, ReadsValuesFlagsRepeatsAndPositionals) {
  const Arguments a = parse_arguments(
      example(), {"north", "--colour", "red", "--set", "a=1", "--set=b=2", "--dry", "--coats=3"});
  EXPECT_EQ(a.text("colour"), "red");
  EXPECT_EQ(a.all("set"), (std::vector<std::string>{"a=1", "b=2"}));
  EXPECT_TRUE(a.has("dry"));
  EXPECT_FALSE(a.has("quiet"));
  EXPECT_EQ(a.integer("coats", 1, 0, 9), 3);
  EXPECT_EQ(a.positionals, std::vector<std::string>{"north"});
}

TEST(CommandLine, RefusesWhatItDoesNotKnowAndNamesTheNearest) {
  const auto parse = [](std::vector<std::string> words) {
    return [words] { static_cast<void>(parse_arguments(example(), words)); };
  };
  test::expect_error<ConfigError>(parse({"--color", "red"}), ExitCode::kUsage, {"--color", "--colour"});
  test::expect_error<ConfigError>(parse({"--coats", "2"}), ExitCode::kUsage, {"--colour", "missing"});
  test::expect_error<ConfigError>(parse({"--colour", "a", "--colour", "b"}), ExitCode::kUsage, {"more than once"});
  test::expect_error<ConfigError>(parse({"--colour", "a", "x", "y"}), ExitCode::kUsage, {"'y'"});
  test::expect_error<ConfigError>(parse({"--colour"}), ExitCode::kUsage, {"colour"});
}

TEST(CommandLine, NumbersAreCheckedWholeAndInRange) {
  for (const char* word : {"", "3x", "1e3", "-1", "11", "9999999999999999999999"}) {
    const Arguments a = parse_arguments(example(), {"--colour", "red", std::string("--coats=") + word + (*word == 0 ? " " : "")});
    test::expect_error<ConfigError>([&] { static_cast<void>(a.integer("coats", 0, 0, 10)); }, ExitCode::kUsage, {"coats"});
  }
  const Arguments a = parse_arguments(example(), {"--colour=red", "--coats=2.5"});
  EXPECT_DOUBLE_EQ(a.number("coats", 0, 0, 3), 2.5);
  test::expect_error<ConfigError>([&] { static_cast<void>(a.number("coats", 0, 0, 2)); }, ExitCode::kUsage, {"2.5"});
}

TEST(CommandLine, EveryCommandHasHelpWithAnExampleOfItself) {
  std::set<std::string> names;
  for (const Command& command : commands()) {
    EXPECT_TRUE(names.insert(command.spec.name).second) << command.spec.name;
    const std::string help = help_text(command.spec);
    EXPECT_NE(help.find("example:"), std::string::npos);
    EXPECT_NE(command.spec.example.find("triphase " + command.spec.name), std::string::npos) << command.spec.name;
    for (const OptionSpec& option : command.spec.options) EXPECT_NE(help.find("--" + option.name), std::string::npos);
  }
  EXPECT_EQ(names.size(), 18U);
}

TEST(CommandLine, TheProgramNamesTheNearestCommand) {
  const test::CommandResult result = test::run_command(test::program_path().string() + " trian");
  EXPECT_EQ(result.exit_code, 64);
  EXPECT_NE(result.output.find("'train'"), std::string::npos) << result.output;
}

TEST(CommandLine, HelpAndVersionEndWithZero) {
  for (const char* words : {"--help", "--version", "train --help", "cache build --help", "weights show --version"})
    EXPECT_EQ(test::run_command(test::program_path().string() + " " + words).exit_code, 0) << words;
  EXPECT_EQ(run_main({}), 64);
}

}  // namespace
}  // namespace triphase::launch
