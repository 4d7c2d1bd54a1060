// SPDX-License-Identifier: Apache-2.0
#include "tests/base/repository_rules.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

const std::string kSpdx = "// SPDX-License-Identifier: Apache-2.0\n";

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

/// What is wrong with one file; the SPDX line is put before C++ text.
std::string broken(const std::string& path, const std::string& text) {
  const bool is_cpp = path.ends_with(".hpp") || path.ends_with(".cpp");
  return joined(broken_rules({{path, (is_cpp ? kSpdx : "") + text}}));
}

std::string broken_by_include(const std::string& path, const std::string& include) {
  return broken(path, "#include " + include + "\n");
}

TEST(Repository, KeepsTheRulesOfTheHouse) {
  const std::vector<RepositoryFile> files = read_repository(source_folder());
  ASSERT_GT(files.size(), 30U) << "the walk does not find the sources";
  EXPECT_EQ(joined(broken_rules(files)), "");
}

TEST(Repository, NoFileOfARoomIsIgnoredByGit) {
  std::vector<std::string> paths;
  for (const RepositoryFile& file : read_repository(source_folder()))
    if (file.path.find("__pycache__") == std::string::npos) paths.push_back(file.path);
  // Rooms that are empty so far must be safe as well.
  for (const char* room : {"base", "data", "models", "dist", "trainer", "launch", "tests", "docs"})
    for (const char* name : {"/a.hpp", "/a.cpp", "/CMakeLists.txt", "/sub/a.cpp"})
      paths.push_back(std::string(room) + name);
  EXPECT_EQ(joined(ignored_paths(read_text(source_folder() / ".gitignore"), paths)), "");
}

TEST(RepositoryRules, EveryPairOfRoomsIsAllowedOrRefusedAsTheOrderSays) {
  const std::vector<std::string> rooms = {"base", "data", "models", "dist", "trainer", "launch"};
  const auto height = [](const std::string& room) {
    return room == "base" ? 0 : room == "trainer" ? 2 : room == "launch" ? 3 : 1;
  };
  for (const std::string& from : rooms) {
    for (const std::string& to : rooms) {
      const std::string found = broken_by_include(from + "/a.cpp", "\"" + to + "/b.hpp\"");
      const bool is_allowed = from == to || height(from) > height(to);
      EXPECT_EQ(found.empty(), is_allowed) << from << " -> " << to << ": " << found;
      EXPECT_EQ(found.find(from + "/a.cpp:2: room " + from) == 0, !is_allowed) << found;
    }
    EXPECT_NE(broken_by_include(from + "/a.hpp", "\"tests/support/test_support.hpp\""), "");
    EXPECT_EQ(broken_by_include("tests/base/a_test.cpp", "\"" + from + "/b.hpp\""), "");
  }
  EXPECT_EQ(broken_by_include("tests/base/a_test.cpp", "\"tests/support/test_support.hpp\""), "");
}

TEST(RepositoryRules, IncludesAreWrittenFromTheRoot) {
  for (const char* include : {"\"file.hpp\"", "\"../data/cache.hpp\"", "\"cmake/x.hpp\""}) {
    EXPECT_NE(broken_by_include("base/a.cpp", include), "") << include;
    EXPECT_NE(broken_by_include("tests/base/a.cpp", include), "") << include;
  }
  EXPECT_EQ(broken("base/a.cpp", "  #  include  <vector>  // for rows\n"), "");
  EXPECT_NE(broken("base/a.cpp", "  #  include  \"data/cache.hpp\"  // why\n"), "");
}

TEST(RepositoryRules, ALibraryStaysInItsRoom) {
  const std::vector<std::pair<std::string, std::string>> homes = {
      {"<mpi.h>", "dist"},           {"<mpi-ext.h>", "dist"},
      {"<nccl.h>", "dist"},          {"<hdf5.h>", "data"},
      {"<H5public.h>", "data"},      {"<toml++/toml.h>", "base"},
      {"<toml++/toml.hpp>", "base"}, {"<boost/program_options.hpp>", "launch"},
  };
  for (const auto& [header, home] : homes) {
    for (const std::string room : {"base", "data", "models", "dist", "trainer", "launch"})
      EXPECT_EQ(broken_by_include(room + "/a.cpp", header).empty(), room == home) << room << header;
    EXPECT_EQ(broken_by_include("tests/" + home + "/a_test.cpp", header), "");
  }
  EXPECT_NE(broken_by_include("base/a.cpp", "<ATen/core/Tensor.h>"), "");
  EXPECT_EQ(broken_by_include("data/a.cpp", "<ATen/core/Tensor.h>"), "");
  EXPECT_NE(broken_by_include("models/a.cpp", "<torch/torch.h>"), "");
  EXPECT_NE(broken_by_include("models/a.cpp", "<gtest/gtest.h>"), "");
}

TEST(RepositoryRules, SpdxLineIsTheFirst) {
  EXPECT_EQ(joined(broken_rules({{"base/a.cpp", kSpdx + "int a;\n"}})), "");
  EXPECT_NE(joined(broken_rules({{"base/a.cpp", "\n" + kSpdx}})), "");
  EXPECT_NE(joined(broken_rules({{"base/a.hpp", "#pragma once\n"}})), "");
  EXPECT_NE(joined(broken_rules({{"tests/base/a.cpp", "// SPDX-License-Identifier: MIT\n"}})), "");
  EXPECT_NE(joined(broken_rules({{"base/a.cpp", ""}})), "");
}

TEST(RepositoryRules, LinesAreCounted) {
  const auto with_lines = [](const std::string& path, int lines) {
    std::string text;
    for (int i = 1; i < lines; ++i) text += "//\n";  // the SPDX line is one
    return broken(path, text);
  };
  EXPECT_EQ(with_lines("base/a.hpp", 220), "");
  EXPECT_NE(with_lines("base/a.hpp", 221), "");
  EXPECT_EQ(with_lines("base/a.cpp", 420), "");
  EXPECT_NE(with_lines("base/a.cpp", 421), "");
  EXPECT_EQ(with_lines("tests/base/a_test.cpp", 600), "");
  EXPECT_NE(with_lines("tests/base/a_test.cpp", 601), "");
  EXPECT_EQ(with_lines("docs/a.md", 5000), "");
}

TEST(RepositoryRules, OpenTaskNeedsAnIssue) {
  const std::string todo = std::string("TO") + "DO";
  for (const char* path : {"base/a.cpp", "cmake/a.cmake", "launch/a.sh", "tests/reference/a.py"}) {
    EXPECT_EQ(broken(path, "// " + todo + "(#12): shorter\n"), "");
    EXPECT_NE(broken(path, "// " + todo + ": shorter\n"), "");
    EXPECT_NE(broken(path, "// " + todo + "(soon)\n"), "");
    EXPECT_NE(broken(path, "// " + todo + "()\n"), "");
    EXPECT_NE(broken(path, std::string("// FIX") + "ME\n"), "");
  }
  EXPECT_EQ(broken("base/a.cpp", "int MASTODON" + todo + "S;\n"), "");
  EXPECT_EQ(broken("docs/style.md", "A " + todo + " names its issue.\n"), "");
}

TEST(RepositoryRules, NoPathOfAMachine) {
  const std::string home = std::string("/ho") + "me/someone/x";
  for (const std::string& path :
       {home, std::string("/wo") + "rk/main", std::string("/ro") + "ot/x",
        std::string("/Us") + "ers/someone", std::string("/tmp") + "/setup"}) {
    for (const char* file : {"base/a.cpp", "docs/a.md", "configs/a.toml", "README.md"}) {
      EXPECT_NE(broken(file, "x = \"" + path + "\"\n"), "") << path;
      EXPECT_NE(broken(file, path + "\n"), "") << path;
    }
  }
  EXPECT_EQ(broken("README.md",
                   "https://example.org/wo"
                   "rk/x ${X}/ho"
                   "me/a rest/wo"
                   "rk/y\n"),
            "");
  EXPECT_EQ(broken("README.md", "see /tmp and /sys/fs/cgroup\n"), "");
}

std::string ignored(const std::string& gitignore, const std::string& path) {
  return joined(ignored_paths(gitignore, {path}));
}

TEST(IgnoredPaths, FollowGitsPatterns) {
  EXPECT_EQ(ignored("/build/\n", "data/build.cpp"), "");
  EXPECT_NE(ignored("data/\n", "data/cache.cpp"), "");
  EXPECT_NE(ignored("data\n", "tests/data/a.cpp"), "");
  EXPECT_EQ(ignored("/data\n", "tests/data/a.cpp"), "");
  EXPECT_NE(ignored("/data\n", "data/a.cpp"), "");
  EXPECT_NE(ignored("*.cpp\n", "base/file.cpp"), "");
  EXPECT_NE(ignored("tests/data/*\n", "tests/data/a.cpp"), "");
  EXPECT_EQ(ignored("*.cpp\n!file.cpp\n", "base/file.cpp"), "");
  EXPECT_EQ(ignored("# data\n\n", "data/a.cpp"), "");
}

}  // namespace
}  // namespace triphase::test
