// SPDX-License-Identifier: Apache-2.0
// Every file in configs/ is loaded by the program.
#include "tests/launch/program_fixture.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

TEST(Configs, EveryFileLoads) {
  const fs::path configs = source_folder() / "configs";
  // A file that continues another one is loaded after it.
  const std::map<std::string, std::string> bases{{"phantom_peft.toml", "phantom_full.toml"},
                                                 {"merlin_full.toml", "merlin_peft.toml"}};
  int loaded = 0;
  for (const auto& entry : fs::directory_iterator(configs)) {
    if (entry.path().extension() != ".toml") continue;
    const std::string name = entry.path().filename();
    CommandResult result;
    if (name.starts_with("study_")) {
      result = run_command("cd " + source_folder().string() + " && " + program_path().string() + " study --dry-run --config configs/" + name);
    } else {
      const auto base = bases.find(name);
      result = triphase("train --print-config" +
                        (base == bases.end() ? "" : " --config " + (configs / base->second).string()) + " --config " +
                        entry.path().string());
    }
    EXPECT_EQ(result.exit_code, 0) << name << ": " << result.output;
    ++loaded;
  }
  EXPECT_GE(loaded, 6);
}

TEST(Configs, PrintedConfigurationLoadsAgain) {
  const TemporaryFolder folder;
  const fs::path file = write_run_file(folder.path(), "run", {{"adapt.image.rank", "3"}, {"adapt.method", "\"peft\""}});
  const CommandResult printed = triphase("train --print-config --config " + file.string());
  write_text(folder / "again.toml", printed.output);
  const CommandResult again = triphase("train --print-config --config " + (folder / "again.toml").string());
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_NE(again.output.find("rank = 3"), std::string::npos) << again.output;
}

}  // namespace
}  // namespace triphase::test
