// SPDX-License-Identifier: Apache-2.0
#include "data/staging.hpp"

#include "data/folder_lock.hpp"
#include "tests/data/cache_cohort.hpp"
#include "tests/data/full_disk.hpp"

namespace triphase::data {
namespace {

using test::CacheCohort;
using test::files_in;
using test::read_text;
using test::read_volume;
using test::write_text;

/// Eight studies in three shards, and a folder to stage to.
struct StagedCohort {
  StagedCohort() : cohort(8) { cohort.build(); }
  [[nodiscard]] StagingReport stage(const std::function<void()>& after_piece = [] {}) const {
    return stage_shards(cohort.cache(), cohort.folder() / "scratch", after_piece);
  }
  [[nodiscard]] std::filesystem::path folder() const {
    return staging_folder(cohort.cache(), cohort.folder() / "scratch");
  }
  /// The staged cache gives what the cache gives.
  void expect_same() const {
    const Cache plain(cohort.cache());
    const Cache staged(cohort.cache(), folder());
    EXPECT_EQ(staged.data_hash(), plain.data_hash());
    for (std::int64_t i = 0; i < 8; ++i) EXPECT_EQ(read_volume(staged, i), read_volume(plain, i));
  }
  CacheCohort cohort;
};

TEST(Staging, CopiesAllOnceAndIsWhatIsRead) {
  const StagedCohort c;
  StagingReport report = c.stage();
  EXPECT_EQ(report.warning, "");
  EXPECT_EQ(report.num_copied, 3);
  EXPECT_EQ(report.num_staged, 3);
  EXPECT_EQ(report.num_shards, 3);
  EXPECT_EQ(report.folder, c.folder());
  for (const auto& [name, bytes] : files_in(c.folder()))
    EXPECT_TRUE(bytes == read_text(c.cohort.cache() / name)) << name;
  c.expect_same();
  const auto before = files_in(c.cohort.cache());
  report = c.stage();
  EXPECT_EQ(report.num_copied, 0);
  EXPECT_EQ(report.num_staged, 3);
  // The copies are read, and nothing else: without the originals they still are.
  const std::string index = read_text(c.cohort.cache() / "cache.json");
  for (int i = 0; i < 3; ++i) std::filesystem::remove(c.cohort.cache() / str("shard-0000", i, ".h5"));
  const Cache staged(c.cohort.cache(), c.folder());
  EXPECT_EQ(staged.entries().size(), 8U);
  (void)read_volume(staged, 7);
}

TEST(Staging, GoesOnWhereItWasStopped) {
  const StagedCohort c;
  int pieces = 0;
  EXPECT_THROW((void)c.stage([&] {
    if (++pieces == 4) throw CommError("another rank fell");  // in the second shard
  }),
               CommError);
  EXPECT_TRUE(std::filesystem::exists(c.folder() / "shard-00000.h5"));
  EXPECT_FALSE(std::filesystem::exists(c.folder() / "shard-00001.h5"));
  c.expect_same();
  const StagingReport report = c.stage();
  EXPECT_EQ(report.num_copied, 2);
  EXPECT_EQ(files_in(c.folder()).size(), 3U) << "half a copy was left";
}

TEST(Staging, ADamagedCopyIsMadeAnew) {
  const StagedCohort c;
  (void)c.stage();
  std::string bytes = read_text(c.folder() / "shard-00001.h5");
  write_text(c.folder() / "shard-00001.h5", bytes.substr(0, bytes.size() - 7));
  EXPECT_EQ(c.stage().num_copied, 1);
  c.expect_same();
}

TEST(Staging, AnotherContentHasAnotherFolder) {
  StagedCohort c;
  (void)c.stage();
  const std::filesystem::path before = c.folder();
  c.cohort.write_image(7, 99);
  c.cohort.rows()[7].replace(c.cohort.rows()[7].find("liver"), 5, "Liver");
  c.cohort.write_manifest();
  c.cohort.build();
  EXPECT_NE(c.folder(), before);
  EXPECT_EQ(c.stage().num_copied, 3);
  c.expect_same();
}

TEST(Staging, AFullDiskIsAWarningAndTheRestIsReadFromTheCache) {
  const StagedCohort c;
  const auto shard_bytes =
      static_cast<std::int64_t>(std::filesystem::file_size(c.cohort.cache() / "shard-00000.h5"));
  StagingReport report;
  {
    const test::FullDisk disk(shard_bytes * 3 / 2);
    report = c.stage();
  }
  EXPECT_EQ(report.num_staged, 1);
  EXPECT_NE(report.warning.find("No space left"), std::string::npos) << report.warning;
  EXPECT_EQ(files_in(c.folder()).size(), 1U) << "half a copy was left";
  c.expect_same();
  EXPECT_EQ(c.stage().num_copied, 2);
}

TEST(Staging, AnotherJobThatCopiesIsAWarning) {
  const StagedCohort c;
  std::filesystem::create_directories(c.folder());
  const FolderLock other(c.folder(), FolderLock::Role::kLead);
  const StagingReport report = c.stage();
  EXPECT_NE(report.warning.find("another build"), std::string::npos) << report.warning;
  EXPECT_EQ(report.num_staged, 0);
  c.expect_same();
}

TEST(Staging, AFolderThatCannotBeMadeIsAWarningAndADamagedCacheAnError) {
  const StagedCohort c;
  write_text(c.cohort.folder() / "scratch", "a file");
  EXPECT_NE(c.stage().warning, "");
  std::filesystem::remove(c.cohort.folder() / "scratch");
  const std::string bytes = read_text(c.cohort.cache() / "shard-00002.h5");
  write_text(c.cohort.cache() / "shard-00002.h5", bytes.substr(0, 100));
  EXPECT_THROW((void)c.stage(), DataError);
}

}  // namespace
}  // namespace triphase::data
