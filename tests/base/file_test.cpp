// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"
#include "tests/support/test_support.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>

namespace triphase {
namespace {

using test::expect_error;
using test::TemporaryFolder;

namespace fs = std::filesystem;

int num_entries(const fs::path& folder) {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++count;
  return count;
}

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

/// While it lives, no file may grow beyond the limit: the disk is full, as far as a writer can
/// tell.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limited = {bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST(IoErrorOf, GivesTheCodeOfWhatWasRefused) {
  const auto code = [](int reason, bool creating) {
    return static_cast<int>(io_error("x", reason, creating).exit_code());
  };
  for (const bool creating : {false, true}) {
    for (const int reason : {ENOSPC, EDQUOT, EIO, EFBIG}) EXPECT_EQ(code(reason, creating), 74);
    for (const int reason : {EACCES, EPERM}) EXPECT_EQ(code(reason, creating), 77);
  }
  for (const int reason : {ENOENT, ENOTDIR}) EXPECT_EQ(code(reason, false), 66);
  for (const int reason : {EISDIR, EMFILE, EROFS}) EXPECT_EQ(code(reason, false), 74);
  for (const int reason : {ENOENT, ENOTDIR, EEXIST, EROFS, EISDIR, ENAMETOOLONG, ELOOP})
    EXPECT_EQ(code(reason, true), 73);
}

TEST(IoErrorOf, SaysWhatWhyAndWhatToDo) {
  EXPECT_STREQ(
      io_error("cannot write 'a.h5'", ENOSPC, true).what(),
      "cannot write 'a.h5': No space left on device. Free some space, or choose a folder on "
      "another disk.");
  for (const int reason : {EACCES, ENOENT, EROFS, EIO, EFBIG, EMFILE})
    EXPECT_TRUE(std::string(io_error("x", reason).what()).ends_with("."));
}

TEST(ReadFile, ReturnsTheContentUpToTheLimit) {
  const TemporaryFolder folder;
  for (const std::size_t size : {0U, 1U, 4096U, 100000U}) {
    const std::string text(size, 'x');
    test::write_text(folder / "a", text);
    EXPECT_EQ(read_file(folder / "a", static_cast<std::int64_t>(size)), text);
    if (size > 0)
      expect_error<DataError>(
          [&] { static_cast<void>(read_file(folder / "a", static_cast<std::int64_t>(size) - 1)); },
          ExitCode::kBadData, {"/a'", str(size), str("at most ", size - 1)});
  }
}

// The kernel gives such files the size 0.
TEST(ReadFile, ReadsAFileWhoseSizeIsNotKnownBeforehand) {
  EXPECT_NE(read_file("/proc/self/status", 1 << 20).find("Name:"), std::string::npos);
  expect_error<DataError>([] { static_cast<void>(read_file("/proc/self/status", 10)); },
                          ExitCode::kBadData, {"at most 10"});
  expect_error<DataError>([] { static_cast<void>(read_file("/dev/zero", 100000)); },
                          ExitCode::kBadData, {"at most 100000"});
}

TEST(ReadFile, ChecksTheSizeBeforeMemoryIsTaken) {
  const TemporaryFolder folder;
  test::write_text(folder / "huge", "");
  fs::resize_file(folder / "huge", std::uintmax_t{1} << 40);  // a hole of a terabyte
  expect_error<DataError>([&] { static_cast<void>(read_file(folder / "huge", 1 << 20)); },
                          ExitCode::kBadData, {"huge", "1099511627776"});
}

TEST(ReadFile, NamesWhatIsNotThereOrNoFile) {
  const TemporaryFolder folder;
  test::write_text(folder / "a", "");
  const auto read = [](const fs::path& path) {
    return [path] { static_cast<void>(read_file(path, 10)); };
  };
  expect_error<DataError>(read(folder / "none"), ExitCode::kMissingInput, {"none", "not there"});
  expect_error<DataError>(read(folder.path() / "a" / "b"), ExitCode::kMissingInput, {"a/b"});
  expect_error<DataError>(read(folder.path()), ExitCode::kBadData, {"is a folder"});
}

TEST(WriteFileAtomically, WritesNewFilesAndReplacesOldOnes) {
  const TemporaryFolder folder;
  for (const std::string& text : {std::string("first"), std::string(), std::string(1 << 20, 'z')}) {
    write_file_atomically(folder / "a", text);
    EXPECT_EQ(test::read_text(folder / "a"), text);
    EXPECT_EQ(num_entries(folder.path()), 1);
  }
}

TEST(WriteFileAtomically, NewFileFollowsTheUmaskAndAReplacedOneKeepsItsMode) {
  const TemporaryFolder folder;
  const mode_t old_mask = ::umask(027);
  write_file_atomically(folder / "new", "a");
  EXPECT_EQ(mode_of(folder / "new"), 0640U);
  for (const mode_t mode : {0600U, 0444U, 0666U}) {
    ASSERT_EQ(::chmod((folder / "new").c_str(), mode), 0);
    write_file_atomically(folder / "new", "b");
    EXPECT_EQ(mode_of(folder / "new"), mode);
  }
  ::umask(old_mask);
}

TEST(WriteFileAtomically, FailureInTheMiddleKeepsTheOldFileAndLeavesNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  {
    const FileSizeLimit limit(4096);
    expect_error<IoError>([&] { write_file_atomically(folder / "a", std::string(1 << 20, 'x')); },
                          ExitCode::kIo, {"cannot write", "/a'", "File too large"});
    expect_error<IoError>([&] { write_file_atomically(folder / "b", std::string(1 << 20, 'x')); },
                          ExitCode::kIo, {"/b'"});
  }
  EXPECT_EQ(test::read_text(folder / "a"), "old");
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, ReaderSeesOldOrNewButNeverAPart) {
  const TemporaryFolder folder;
  const std::string old_text(100000, 'a');
  const std::string new_text(150000, 'b');
  write_file_atomically(folder / "a", old_text);
  std::atomic<bool> is_done = false;
  std::jthread writer([&] {
    for (int i = 0; i < 40; ++i)
      write_file_atomically(folder / "a", i % 2 == 0 ? new_text : old_text);
    is_done = true;
  });
  while (!is_done) {
    const std::string seen = read_file(folder / "a", 1 << 20);
    EXPECT_TRUE(seen == old_text || seen == new_text) << seen.size() << " bytes";
  }
}

TEST(WriteFileAtomically, SeveralWritersDoNotDisturbEachOther) {
  const TemporaryFolder folder;
  {
    std::vector<std::jthread> writers;
    for (int t = 0; t < 4; ++t)
      writers.emplace_back([&, t] {
        for (int i = 0; i < 10; ++i)
          write_file_atomically(folder / "a", std::string(5000, static_cast<char>('a' + t)));
      });
  }
  const std::string text = test::read_text(folder / "a");
  EXPECT_EQ(text, std::string(5000, text[0]));
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, RefusesPlacesWhereNoFileCanBe) {
  const TemporaryFolder folder;
  test::write_text(folder / "file", "");
  const auto write = [](const fs::path& path) {
    return [path] { write_file_atomically(path, "x"); };
  };
  const ExitCode refused = ExitCode::kCannotCreateOutput;
  expect_error<IoError>(write(folder.path() / "file" / "a"), refused,
                        {"file/a", "Not a directory"});
  expect_error<IoError>(write(folder.path() / "none" / "a"), refused, {"none/a"});
  expect_error<IoError>(write(folder / std::string(300, 'n')), refused, {"File name too long"});
  expect_error<IoError>(write(folder.path()), refused, {"no ordinary file"});
  expect_error<IoError>(write("/proc/triphase"), refused, {"/proc/triphase"});
}

// A rename over a device would replace the device. The pipe stands for it: were this to fail, a
// device of the machine that runs the tests would be lost.
TEST(WriteFileAtomically, LeavesDevicesAlone) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error<IoError>([&] { write_file_atomically(folder / "pipe", "x"); },
                        ExitCode::kCannotCreateOutput, {"/pipe'", "no ordinary file"});
  EXPECT_TRUE(fs::is_fifo(folder / "pipe"));
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomically, WorksWithANameAlone) {
  const TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file_atomically("plain", "x");
  fs::current_path(before);
  EXPECT_EQ(test::read_text(folder / "plain"), "x");
}

TEST(FsyncPath, FlushesFilesAndFoldersAndNamesWhatIsNotThere) {
  const TemporaryFolder folder;
  test::write_text(folder / "a", "x");
  EXPECT_NO_THROW(fsync_path(folder / "a"));
  EXPECT_NO_THROW(fsync_path(folder.path()));
  EXPECT_NO_THROW(fsync_path("/dev/null"));  // cannot be flushed, and need not
  expect_error<IoError>([&] { fsync_path(folder / "none"); }, ExitCode::kMissingInput, {"none"});
}

TEST(MakeOutputDirectory, MakesParentsAndAcceptsWhatIsThere) {
  const TemporaryFolder folder;
  const fs::path deep = folder.path() / "a" / "b" / "c";
  make_output_directory(deep);
  make_output_directory(deep);
  EXPECT_TRUE(fs::is_directory(deep));
  EXPECT_EQ(num_entries(deep), 0);
}

TEST(MakeOutputDirectory, NamesAFolderThatCannotBeMadeOrWritten) {
  const TemporaryFolder folder;
  test::write_text(folder / "file", "");
  const auto make = [](const fs::path& path) { return [path] { make_output_directory(path); }; };
  const ExitCode refused = ExitCode::kCannotCreateOutput;
  expect_error<IoError>(make(folder / "file"), refused, {"/file'"});
  expect_error<IoError>(make(folder.path() / "file" / "a"), refused, {"file/a"});
  expect_error<IoError>(make("/proc/triphase/run"), refused, {"/proc/triphase/run"});
  expect_error<IoError>(make("/proc"), refused, {"cannot write into the folder '/proc'"});
}

TEST(MappedFile, HoldsTheContent) {
  const TemporaryFolder folder;
  for (const std::size_t size : {0U, 1U, 4096U, 100001U}) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7);
    test::write_text(folder / "a", text);
    const MappedFile file(folder / "a");
    ASSERT_EQ(file.bytes().size(), size);
    for (std::size_t i = 0; i < size; ++i)
      ASSERT_EQ(file.bytes()[i], static_cast<std::byte>(text[i]));
  }
}

TEST(MappedFile, MovesItsBytesAndOutlivesTheName) {
  const TemporaryFolder folder;
  test::write_text(folder / "a", "aaa");
  test::write_text(folder / "b", "bbbb");
  MappedFile first(folder / "a");
  const std::byte* const data = first.bytes().data();
  MappedFile second(std::move(first));
  EXPECT_EQ(second.bytes().data(), data);
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move): what is left is defined
  MappedFile third(folder / "b");
  third = std::move(second);
  fs::remove(folder / "a");
  EXPECT_EQ(third.bytes()[2], std::byte{'a'});
  EXPECT_EQ(third.bytes().size(), 3U);
}

TEST(MappedFile, NamesWhatIsNotThereOrNoFile) {
  const TemporaryFolder folder;
  expect_error<DataError>([&] { MappedFile file(folder / "none"); }, ExitCode::kMissingInput,
                          {"none"});
  expect_error<DataError>([&] { MappedFile file(folder.path()); }, ExitCode::kBadData,
                          {"is a folder"});
}

}  // namespace
}  // namespace triphase
