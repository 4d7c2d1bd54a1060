// SPDX-License-Identifier: Apache-2.0
#include "launch/command.hpp"
#include "launch/command_line.hpp"
#include "launch/run_main.hpp"
#include "tests/support/test_support.hpp"
#include "trainer/study/cell_estimate.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

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
  EXPECT_EQ(names.size(), 19U);
}

/// The words of one line of an example after "triphase", without a launcher before it.
std::vector<std::string> words_after_program(const std::string& line) {
  std::vector<std::string> words;
  std::istringstream text(line);
  for (std::string word; text >> word;) words.push_back(word);
  const auto program = std::find(words.begin(), words.end(), "triphase");
  if (program != words.end()) words.erase(words.begin(), program + 1);
  return words;
}

/// Relative names of files in an example and in configs/ are meant from the repository's root.
class FromTheRepository : public ::testing::Test {
 protected:
  FromTheRepository() { std::filesystem::current_path(test::source_folder()); }
  ~FromTheRepository() override { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
};

TEST_F(FromTheRepository, EveryExampleParsesAndItsConfigurationLoads) {
  dist::Runtime runtime({.backend = "self"});
  for (const Command& command : commands()) {
    std::istringstream lines(command.spec.example);
    for (std::string line; std::getline(lines, line);) {
      SCOPED_TRACE(line);
      std::vector<std::string> words = words_after_program(line);
      std::istringstream name(command.spec.name);
      for (std::string part; name >> part; words.erase(words.begin())) {
        ASSERT_FALSE(words.empty());
        ASSERT_EQ(words.front(), part);
      }
      const auto load = [&] {
        const Arguments arguments = parse_arguments(command.spec, words);
        static_cast<void>(command.prepare(arguments, runtime));
        ConfigSources sources;
        for (const std::string& file : arguments.all("config")) sources.files.emplace_back(file);
        if (sources.files.empty()) return;
        if (command.spec.name == "study")
          static_cast<void>(trainer::study_cells(trainer::load_study_config(sources)));
        else  // a file that continues another one names no cache
          EXPECT_NE(trainer::load_run_config(sources).data.cache, "");
      };
      EXPECT_NO_THROW(load());
    }
  }
}

TEST_F(FromTheRepository, ThePhantomStudyOfMethodsTrainsAsThePhantomRunFilesDo) {
  const trainer::StudyConfig study =
      trainer::load_study_config({.files = {"configs/study_methods.toml"}, .environment = {}, .sets = {}});
  for (const trainer::StudyCell& cell : trainer::study_cells(study)) {
    ConfigSources sources{.files = {"configs/phantom_full.toml"}, .environment = {}, .sets = {}};
    if (cell.config.adapt.method == "peft") sources.files.emplace_back("configs/phantom_peft.toml");
    const trainer::RunConfig alone = trainer::load_run_config(sources);
    EXPECT_EQ(cell.config.adapt.method, alone.adapt.method) << cell.name;
    EXPECT_EQ(cell.config.schedule.max_epochs, alone.schedule.max_epochs) << cell.name;
    EXPECT_EQ(cell.config.optimizer.lr, alone.optimizer.lr) << cell.name;
    EXPECT_EQ(cell.config.adapt.image.rank, alone.adapt.image.rank) << cell.name;
    EXPECT_EQ(cell.config.adapt.image.targets, alone.adapt.image.targets) << cell.name;
    EXPECT_EQ(cell.config.adapt.text.targets, alone.adapt.text.targets) << cell.name;
  }
}

TEST(CommandLine, SetIsRefusedWithItsReasonWhereNoConfigurationIsRead) {
  std::int64_t refused = 0;
  for (const Command& command : commands()) {
    const auto& options = command.spec.options;
    const bool reads_configuration =
        std::any_of(options.begin(), options.end(), [](const OptionSpec& o) { return o.name == "config"; });
    const bool takes_set =
        std::any_of(options.begin(), options.end(), [](const OptionSpec& o) { return o.name == "set"; });
    EXPECT_EQ(takes_set, reads_configuration) << command.spec.name;
    if (takes_set) continue;
    ++refused;
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"--set", "run.seed=1"}, std::vector<std::string>{"--set=run.seed=1"},
          std::vector<std::string>{"--config", "run.toml"}})
      test::expect_error<ConfigError>([&] { static_cast<void>(parse_arguments(command.spec, words)); },
                                      ExitCode::kUsage, {words[0].substr(0, 5), "reads no configuration", command.spec.name});
  }
  EXPECT_EQ(refused, 11);
}

TEST(CommandLine, HelpOfAFirstWordIsThatOfItsCommands) {
  for (const char* group : {"cache", "weights", "bench"}) {
    const test::CommandResult help = test::run_command(test::program_path().string() + " " + group + " --help");
    EXPECT_EQ(help.exit_code, 0) << help.output;
    for (const Command& command : commands()) {
      const bool is_inside = command.spec.name.starts_with(std::string(group) + " ");
      EXPECT_EQ(help.output.find(help_text(command.spec)) != std::string::npos, is_inside) << command.spec.name;
    }
  }
  const test::CommandResult alone = test::run_command(test::program_path().string() + " cache");
  EXPECT_EQ(alone.exit_code, 64);
  for (const char* word : {"cache build", "cache verify", "cache show", "cache --help"})
    EXPECT_NE(alone.output.find(word), std::string::npos) << alone.output;
  EXPECT_EQ(test::run_command(test::program_path().string() + " catch --help").exit_code, 64);
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
