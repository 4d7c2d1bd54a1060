// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over every file of the folders that it is given. "ok-..." must be read,
// "bad-..." refused; any other name may end either way. Folders without files of both kinds fail:
// then nothing was checked.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/fuzz/target.hpp"

namespace {

using triphase::fuzz::Outcome;

struct Counts {
  int files = 0;
  int must_be_read = 0;
  int must_be_refused = 0;
  int wrong = 0;
};

std::vector<std::filesystem::path> sorted_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

void replay(const std::filesystem::path& path, Counts& counts) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string bytes = text.str();
  std::printf("%s\n", path.c_str());  // the last line before an abort names the file
  std::fflush(stdout);
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  const std::string name = path.filename().string();
  const bool is_read = triphase::fuzz::last_outcome() == Outcome::kRead;
  const bool must_be_read = name.starts_with("ok-");
  const bool must_be_refused = name.starts_with("bad-");
  ++counts.files;
  counts.must_be_read += must_be_read ? 1 : 0;
  counts.must_be_refused += must_be_refused ? 1 : 0;
  if ((must_be_read && !is_read) || (must_be_refused && is_read)) {
    ++counts.wrong;
    std::printf("  WRONG: it was %s\n", is_read ? "read" : "refused");
  }
}

}  // namespace

int main(int argc, char** argv) {
  Counts counts;
  for (int i = 1; i < argc; ++i)
    for (const std::filesystem::path& file : sorted_files(argv[i])) replay(file, counts);
  std::printf("%d files replayed: %d had to be read, %d to be refused, %d ended otherwise\n",
              counts.files, counts.must_be_read, counts.must_be_refused, counts.wrong);
  return counts.wrong == 0 && counts.must_be_read > 0 && counts.must_be_refused > 0 ? 0 : 1;
}
