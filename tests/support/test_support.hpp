// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/error.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace triphase::test {

/// A folder that is empty at first and gone at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

[[nodiscard]] std::filesystem::path source_folder();  ///< the repository
[[nodiscard]] std::filesystem::path golden_folder();  ///< tests/golden
[[nodiscard]] std::filesystem::path program_path();   ///< the triphase program
/// The folder with real input, or an empty path where it is absent.
[[nodiscard]] std::filesystem::path shared_folder();

void write_text(const std::filesystem::path& path, const std::string& text);
[[nodiscard]] std::string read_text(const std::filesystem::path& path);

/// What a command printed (standard output and error together) and how it ended.
struct CommandResult {
  int exit_code = 0;
  std::string output;
};
/// Runs a shell command and waits for it; a command ended by a signal gives 128 + the signal.
[[nodiscard]] CommandResult run_command(const std::string& command);

/// Expects that `action` throws Kind with this exit code and a message that holds every word.
template <class Kind, class Action>
void expect_error(Action action, ExitCode code, std::initializer_list<std::string> words) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Kind& error) {
    EXPECT_EQ(static_cast<int>(error.exit_code()), static_cast<int>(code)) << error.what();
    for (const std::string& word : words)
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "'" << word << "' is missing in: " << error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another kind of error: " << error.what();
  }
}

}  // namespace triphase::test

/// Skips, visibly, where the folder with real input is absent.
#define TRIPHASE_NEEDS_SHARED()                                                             \
  if (::triphase::test::shared_folder().empty())                                            \
  GTEST_SKIP() << "the shared folder with real input is absent: this case was NOT checked"
