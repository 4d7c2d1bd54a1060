// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/target.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/error.hpp"

namespace triphase::fuzz {
namespace {

Outcome outcome = Outcome::kRead;

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::abort();
}

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "triphase-fuzz-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) stop("cannot make " + pattern);
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

Outcome last_outcome() { return outcome; }

void expect_clean_end(const std::function<void()>& read) {
  try {
    read();
    outcome = Outcome::kRead;
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::kBadData)
      stop(str(error.kind(), " with exit code ", static_cast<int>(error.exit_code()),
               ", expected 65: ", error.what()));
    if (error.message().size() < 20) stop(str("a message that says nothing: ", error.what()));
    outcome = Outcome::kRefused;
  } catch (const std::exception& error) {
    stop(str("an error that is none of Triphase's: ", error.what()));
  }
}

void require(bool holds, const char* property) {
  if (!holds) stop(str("does not hold: ", property));
}

std::filesystem::path scratch_file(const char* name, std::string_view bytes) {
  static const ScratchFolder folder;
  std::filesystem::path path = folder.path() / name;
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

}  // namespace triphase::fuzz
