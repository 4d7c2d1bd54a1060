// SPDX-License-Identifier: Apache-2.0
// Checkpoint folders as files: whatever happens to a writer, a reader meets whole ones alone.
#include "trainer/checkpoint_files.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/support/test_support.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_text;
using test::TemporaryFolder;
using test::write_text;

const std::vector<std::string> kNames{"model.safetensors", "optimizer.safetensors", "state.json",
                                      "config.toml"};

/// A checkpoint's files with content of their own; calls before_file(i) before the i-th.
std::vector<std::string> fill(
    const fs::path& inside, const std::string& content,
    const std::function<void(std::size_t)>& before_file = [](std::size_t) {}) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    before_file(i);
    write_text(inside / kNames[i], kNames[i] + content);
  }
  before_file(kNames.size());
  return kNames;
}

void write(const fs::path& folder, const std::string& content) {
  write_checkpoint_folder(folder, [&](const fs::path& inside) { return fill(inside, content); });
}

void ignore(const std::string&) {}

TEST(CheckpointFolder, ASecondOneOfTheSameNameReplacesTheFirst) {
  const TemporaryFolder folder;
  const fs::path checkpoint = folder / "deep/checkpoints/step_00000002";
  for (const char* content : {"first", "second"}) {
    write(checkpoint, content);
    verify_checkpoint(checkpoint);
    EXPECT_EQ(read_text(checkpoint / "state.json"), str("state.json", content));
    EXPECT_EQ(std::distance(fs::directory_iterator(checkpoint.parent_path()), {}), 1) << content;
  }
}

TEST(CheckpointFolder, AWriterThatFailsLeavesTheOldOneAndNothingElse) {
  const TemporaryFolder folder;
  const fs::path checkpoint = folder / "step_00000002";
  write(checkpoint, "old");
  for (std::size_t stop = 0; stop <= kNames.size(); ++stop) {
    const auto failing = [&](const fs::path& inside) {
      return fill(inside, "new", [&](std::size_t i) {
        if (i == stop) throw IoError("disk full", ExitCode::kIo);
      });
    };
    expect_error<IoError>([&] { write_checkpoint_folder(checkpoint, failing); }, ExitCode::kIo,
                          {"disk full"});
    verify_checkpoint(checkpoint);
    EXPECT_EQ(read_text(checkpoint / "model.safetensors"), "model.safetensorsold");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << stop;
  }
}

TEST(CheckpointFolder, AWriterThatDiesIsPassedOverAndItsLeftoversGo) {
  const TemporaryFolder folder;
  write(folder / "step_00000002", "old");
  for (std::size_t stop = 0; stop <= kNames.size(); ++stop) {
    const pid_t child = fork();
    if (child == 0) {
      write_checkpoint_folder(folder / "step_00000004", [&](const fs::path& inside) {
        return fill(inside, "new", [&](std::size_t i) {
          if (i == stop) _exit(9);
        });
      });
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 9);
    EXPECT_EQ(checkpoint_names(folder.path()), std::vector<std::string>{"step_00000002"});
    EXPECT_EQ(newest_checkpoint(folder.path(), ignore), folder / "step_00000002");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2) << stop;
    prune_checkpoints(folder.path(), 1, {});
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << stop;
  }
}

TEST(CheckpointFolder, AReaderBesideTheWriterMeetsWholeOnesAlone) {
  const TemporaryFolder folder;
  constexpr std::int64_t kCount = 25;
  std::atomic<bool> is_done = false;
  std::set<std::string> seen;
  std::string trouble;
  std::thread reader([&] {
    for (bool last = false; !last;) {
      last = is_done;
      for (const std::string& name : checkpoint_names(folder.path())) {
        try {
          verify_checkpoint(folder.path() / name);
          seen.insert(name);
        } catch (const Error& error) {
          trouble = error.what();
        }
      }
    }
  });
  for (std::int64_t step = 1; step <= kCount; ++step)
    write(folder.path() / checkpoint_name(step), str(step));
  is_done = true;
  reader.join();
  EXPECT_EQ(trouble, "");
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kCount));
}

TEST(CheckpointNames, AreTheFoldersOfSteps) {
  const TemporaryFolder folder;
  for (const char* name : {"step_00000007", "step_00000010", "step_00000009", "step_123456789",
                           "step_", "step_x", "step_-1", "steps", ".tmp-step_00000011-1"})
    fs::create_directory(folder / name);
  write_text(folder / "step_00000099", "a file");
  EXPECT_EQ(checkpoint_names(folder.path()),
            (std::vector<std::string>{"step_123456789", "step_00000010", "step_00000009",
                                      "step_00000007"}));
  EXPECT_TRUE(checkpoint_names(folder / "nowhere").empty());
}

TEST(CheckpointFolder, LacksNoFileThatARunNeeds) {
  const TemporaryFolder folder;
  const fs::path checkpoint = folder / "step_00000001";
  for (const std::string& absent : kNames) {
    write_checkpoint_folder(checkpoint, [&](const fs::path& inside) {
      std::vector<std::string> names = fill(inside, "");
      std::erase(names, absent);
      return names;
    });
    expect_error<CheckpointError>([&] { verify_checkpoint(checkpoint); }, ExitCode::kBadData,
                                  {absent});
  }
}

TEST(MarkBestCheckpoint, IsReplacedAndNeedsItsFolder) {
  const TemporaryFolder folder;
  mark_best_checkpoint(folder.path(), "step_00000001");
  mark_best_checkpoint(folder.path(), "step_00000002");
  EXPECT_EQ(read_text(folder / "best"), "step_00000002\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  EXPECT_THROW(mark_best_checkpoint(folder / "nowhere", "step_00000001"), Error);
}

}  // namespace
}  // namespace triphase::trainer
