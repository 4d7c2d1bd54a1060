// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace triphase::test {

struct RepositoryFile {
  std::string path;  ///< from the repository root, e.g. "base/file.cpp"
  std::string text;
};

/// Every text file of the rooms, tests, build scripts, settings and pages, and of the root itself.
[[nodiscard]] std::vector<RepositoryFile> read_repository(const std::filesystem::path& root);

/// The rules of the house that a machine can check. One line for each breach: "path:line: what".
///   includes    launch > trainer > {dist, data, models} > base, by paths from the root
///   libraries   MPI and NCCL in dist, HDF5 in data, toml++ in base, Boost in launch, no LibTorch
///   in base size        header <= 220 lines, source <= 420, test <= 600 text        an SPDX line
///   first, no open task without an issue, no path of somebody's machine
[[nodiscard]] std::vector<std::string> broken_rules(const std::vector<RepositoryFile>& files);

/// Those of the paths that git would ignore with this .gitignore.
[[nodiscard]] std::vector<std::string> ignored_paths(const std::string& gitignore,
                                                     const std::vector<std::string>& paths);

}  // namespace triphase::test
