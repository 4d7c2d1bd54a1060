// SPDX-License-Identifier: Apache-2.0
// Cache builds on file systems that are too small for them. Needs leave to mount one (root). Writes that fail at any byte
// are in cache_build_test.cpp; here the file system itself says no: to creating, writing, syncing or renaming.
#include "tests/launch/program_fixture.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

/// A file system in memory of a given size, while it lives.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& folder) : folder_(folder) {
    fs::create_directories(folder_);
    is_mounted_ = mount("size=64m");
  }
  ~SmallDisk() {
    if (is_mounted_) static_cast<void>(run_command("umount " + folder_.string()));
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool is_mounted() const { return is_mounted_; }
  void resize(std::int64_t kibibytes) {
    EXPECT_EQ(run_command("mount -o remount,size=" + std::to_string(kibibytes) + "k " + folder_.string()).exit_code, 0);
  }
  /// Whole again, and empty.
  void empty() {
    resize(64 << 10);
    for (const auto& entry : fs::directory_iterator(folder_)) fs::remove_all(entry.path());
  }

 private:
  bool mount(const std::string& options) {
    return run_command("mount -t tmpfs -o " + options + " triphase_test " + folder_.string()).exit_code == 0;
  }
  fs::path folder_;
  bool is_mounted_ = false;
};

/// Names and bytes of a cache's files, but for the one that notes when each shard was written.
std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename() != "shard_times.json")
      files[fs::relative(entry.path(), folder).string()] = read_text(entry.path());
  return files;
}

TEST(SmallDisk, ABuildEndsWith74AtTwentySizesAndIsFinishedWhenThereIsRoom) {
  const TemporaryFolder folder;
  SmallDisk disk(folder / "disk");
  if (!disk.is_mounted()) GTEST_SKIP() << "no tmpfs can be mounted here: this case was NOT checked";
  const fs::path cache = folder / "disk" / "cache";
  const std::string build = "cache build --quiet --preset phantom --shard-mib 1 --manifest " +
                            tiny_cohort().manifest().string() + " --out " + cache.string();
  expect_outcome(triphase(build), 0, {});
  const std::map<std::string, std::string> expected = files_of(cache);
  expect_outcome(triphase("cache verify --quiet " + cache.string()), 0, {});
  std::int64_t whole_kib = 0;
  for (const auto& [name, bytes] : expected) whole_kib += static_cast<std::int64_t>(bytes.size() + 4095) / 4096 * 4;
  ASSERT_GT(whole_kib, 100);
  int num_saved = 0;
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE(i);
    disk.empty();
    disk.resize(std::max<std::int64_t>(4, whole_kib * i / 20));
    const CommandResult full = triphase(build, i % 4 == 1 ? 2 : 1);
    // Where not even the folder can be made, that is what is said.
    EXPECT_TRUE(full.exit_code == 74 || (i == 0 && full.exit_code == 73)) << full.exit_code << "\n" << full.output;
    EXPECT_NE(full.output.find("pace"), std::string::npos) << full.output;  // "Free some space", "No space left on device"
    if (fs::exists(cache))
      for (const auto& [name, bytes] : files_of(cache)) {
        ASSERT_TRUE(expected.contains(name)) << "left behind: " << name;
        EXPECT_EQ(bytes == expected.at(name), true) << "half of " << name;
        num_saved += name.ends_with(".h5") ? 1 : 0;
      }
    disk.resize(64 << 10);
    expect_outcome(triphase(build), 0, {});
    EXPECT_EQ(files_of(cache) == expected, true);
  }
  EXPECT_GT(num_saved, 0) << "no finished shard outlived a full disk";
}

}  // namespace
}  // namespace triphase::test
