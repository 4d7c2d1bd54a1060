// SPDX-License-Identifier: Apache-2.0
#include "tests/base/repository_rules.hpp"

#include "base/error.hpp"
#include "base/file.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kRooms = {"base", "data", "models", "dist", "trainer", "launch"};

/// What a room may include besides itself.
const std::map<std::string, std::set<std::string>> kBelow = {
    {"base", {}},
    {"data", {"base"}},
    {"models", {"base"}},
    {"dist", {"base"}},
    {"trainer", {"base", "data", "models", "dist"}},
    {"launch", {"base", "data", "models", "dist", "trainer"}},
};

struct LibraryRule {
  std::regex header;
  std::string name;
  std::set<std::string> places;  ///< rooms and single files
};

const std::vector<LibraryRule>& library_rules() {
  static const std::vector<LibraryRule> rules = {
      {std::regex("mpi(-ext)?\\.h|nccl.*\\.h"), "MPI and NCCL", {"dist"}},
      {std::regex("(hdf5|hdf5_hl|H5.*)\\.h"), "HDF5", {"data"}},
      {std::regex("toml(\\+\\+/.*|\\.hpp)"), "toml++", {"base"}},
      {std::regex("boost/.*"), "Boost.Program_options", {"launch"}},
      {std::regex("(ATen|torch|c10)/.*"),
       "LibTorch",
       {"data", "models", "dist", "trainer", "launch", "base/torch_threads.cpp"}},
      {std::regex("torch/torch\\.h"), "<torch/torch.h>, which costs 20 s a file,", {}},
      {std::regex("(gtest|gmock)/.*"), "GoogleTest", {}},
  };
  return rules;
}

std::string first_folder(const std::string& path) {
  const std::size_t slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

bool is_header(const std::string& path) { return path.ends_with(".hpp"); }
bool is_source(const std::string& path) { return path.ends_with(".cpp"); }

bool is_code(const std::string& path) {
  for (const char* ending : {".hpp", ".cpp", ".cmake", "CMakeLists.txt", ".py", ".sh"})
    if (path.ends_with(ending)) return true;
  return false;
}

void check_quoted_include(const std::string& path, const std::string& included,
                          const std::function<void(const std::string&)>& report) {
  const std::string room = first_folder(path);
  const std::string target = first_folder(included);
  const bool is_room = kBelow.contains(target);
  if (room == "tests" && (is_room || target == "tests")) return;
  if (!is_room) {
    report("includes \"" + included + "\"; write the path from the repository root, from a room");
    return;
  }
  const bool is_allowed =
      target == room || (kBelow.contains(room) && kBelow.at(room).contains(target));
  if (!is_allowed) report("room " + room + " includes \"" + included + "\": sideways or upwards");
}

void check_library_include(const std::string& path, const std::string& included,
                           const std::function<void(const std::string&)>& report) {
  const std::string room = first_folder(path);
  if (!kBelow.contains(room)) return;  // a test may include the library that its room knows
  for (const LibraryRule& rule : library_rules())
    if (std::regex_match(included, rule.header) && !rule.places.contains(room) &&
        !rule.places.contains(path))
      report("room " + room + " may not know " + rule.name + " (<" + included + ">)");
}

void check_code_line(const std::string& path, const std::string& line,
                     const std::function<void(const std::string&)>& report) {
  static const std::regex include(R"re(\s*#\s*include\s*(["<])([^">]+)[">].*)re");
  static const std::regex open_task(
      "\\b(TO"
      "DO|FIX"
      "ME|XX"
      "X)\\b(?!\\(#[0-9]+\\))");
  std::smatch match;
  if ((is_header(path) || is_source(path)) && std::regex_match(line, match, include)) {
    if (match[1] == "\"") check_quoted_include(path, match[2], report);
    check_library_include(path, match[2], report);
  }
  if (std::regex_search(line, match, open_task))
    report("'" + match[1].str() + "' without an issue number");
}

void check_any_line(const std::string& line,
                    const std::function<void(const std::string&)>& report) {
  static const std::regex machine_path(
      "(^|[^A-Za-z0-9_.}~/-])(/(home|root|work|Users)/[\\w.-]*|/tm"
      "p/setup)");
  std::smatch match;
  if (std::regex_search(line, match, machine_path))
    report("'" + match[2].str() + "' is a path of somebody's machine");
}

std::int64_t most_lines(const std::string& path) {
  if (path.starts_with("tests/")) return 600;
  return is_header(path) ? 220 : 420;
}

void check_file(const RepositoryFile& file, std::vector<std::string>& broken) {
  std::istringstream in(file.text);
  std::int64_t number = 0;
  const std::function<void(const std::string&)> report = [&](const std::string& what) {
    broken.push_back(str(file.path, ":", number, ": ", what));
  };
  const bool is_cpp = is_header(file.path) || is_source(file.path);
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (number == 1 && is_cpp && line != "// SPDX-License-Identifier: Apache-2.0")
      report("the first line is not the SPDX line");
    if (is_code(file.path)) check_code_line(file.path, line, report);
    check_any_line(line, report);
  }
  if (is_cpp && number == 0) report("is empty; the first line is not the SPDX line");
  if (is_cpp && number > most_lines(file.path))
    report(str("has ", number, " lines, at most ", most_lines(file.path), " are allowed"));
}

/// One line of a .gitignore.
struct Pattern {
  std::string glob;
  bool is_anchored = false;  ///< holds a slash before its end: matched from the root
  bool is_negated = false;
};

std::vector<Pattern> parse_gitignore(const std::string& text) {
  std::vector<Pattern> patterns;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    Pattern pattern;
    pattern.is_negated = line[0] == '!';
    if (pattern.is_negated) line.erase(0, 1);
    if (line.ends_with('/')) line.pop_back();
    pattern.is_anchored = line.find('/') != std::string::npos;
    if (line.starts_with('/')) line.erase(0, 1);
    pattern.glob = line;
    patterns.push_back(pattern);
  }
  return patterns;
}

/// Whether the pattern matches the path or a folder that holds it.
bool matches(const Pattern& pattern, const std::string& path) {
  for (std::size_t end = path.find('/');; end = path.find('/', end + 1)) {
    const std::string prefix = path.substr(0, end);
    const std::size_t slash = prefix.rfind('/');
    const std::string name =
        pattern.is_anchored || slash == std::string::npos ? prefix : prefix.substr(slash + 1);
    if (fnmatch(pattern.glob.c_str(), name.c_str(), 0) == 0) return true;
    if (end == std::string::npos) return false;
  }
}

bool is_text(const std::string& text) { return text.find('\0') == std::string::npos; }

}  // namespace

std::vector<RepositoryFile> read_repository(const fs::path& root) {
  std::vector<RepositoryFile> files;
  constexpr std::int64_t kMaxBytes = 1 << 20;  // larger ones are test data
  const auto add = [&](const fs::path& path) {
    if (!fs::is_regular_file(path) || fs::file_size(path) > kMaxBytes) return;
    std::string text = read_file(path, kMaxBytes);
    if (is_text(text))
      files.push_back({fs::relative(path, root).generic_string(), std::move(text)});
  };
  for (const auto& entry : fs::directory_iterator(root)) add(entry.path());
  std::vector<std::string> folders = kRooms;
  folders.insert(folders.end(), {"tests", "cmake", "configs", "docs"});
  for (const std::string& folder : folders) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) add(entry.path());
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

std::vector<std::string> broken_rules(const std::vector<RepositoryFile>& files) {
  std::vector<std::string> broken;
  for (const RepositoryFile& file : files) check_file(file, broken);
  return broken;
}

std::vector<std::string> ignored_paths(const std::string& gitignore,
                                       const std::vector<std::string>& paths) {
  const std::vector<Pattern> patterns = parse_gitignore(gitignore);
  std::vector<std::string> ignored;
  for (const std::string& path : paths) {
    bool is_ignored = false;
    for (const Pattern& pattern : patterns)  // the last pattern that matches decides
      if (matches(pattern, path)) is_ignored = !pattern.is_negated;
    if (is_ignored) ignored.push_back(path);
  }
  return ignored;
}

}  // namespace triphase::test
