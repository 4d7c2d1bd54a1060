// SPDX-License-Identifier: Apache-2.0
// What a build meets: bad scans, another build, sudden death, a full disk.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <functional>
#include <set>
#include <thread>

#include "base/random.hpp"
#include "data/cache_index.hpp"
#include "data/cache_study.hpp"
#include "data/chunk_compression.hpp"
#include "data/folder_lock.hpp"
#include "data/h5.hpp"
#include "tests/data/cache_cohort.hpp"
#include "tests/data/full_disk.hpp"

namespace triphase::data {
namespace {

using test::CacheCohort;
using test::expect_error;
using test::files_in;
using test::FullDisk;
using test::read_text;
using test::read_volume;
using test::TemporaryFolder;
using test::write_text;
using Files = std::map<std::string, std::string>;

/// But for when it was written.
Files cache_files(const CacheCohort& cohort) {
  Files files = files_in(cohort.cache());
  files.erase("shard_times.json");
  return files;
}

std::vector<std::string> ids_of(const Cache& cache) {
  std::vector<std::string> ids;
  for (const CacheEntry& entry : cache.entries()) ids.push_back(entry.id);
  return ids;
}

std::vector<std::string> left_out_ids(const Cache& cache) {
  std::vector<std::string> ids;
  for (const FailedStudy& study : cache.left_out()) ids.push_back(study.id);
  return ids;
}

using Ids = std::vector<std::string>;

TEST(LeftOut, BadScansAreListedAndTheOthersAreAsIfTheyHadNotBeenThere) {
  CacheCohort cohort(8);  // shards of three, three and two
  cohort.cut_image(2);
  std::filesystem::remove(cohort.image(4));
  for (const int num_ranks : {1, 2, 3}) {
    SCOPED_TRACE(num_ranks);
    cohort.empty_cache();
    EXPECT_EQ(cohort.build(cohort.options(), num_ranks), 6);
    const Cache cache(cohort.cache());
    EXPECT_EQ(ids_of(cache), (Ids{"id0", "id1", "id3", "id5", "id6", "id7"}));
    EXPECT_EQ(left_out_ids(cache), (Ids{"id2", "id4"}));
    EXPECT_EQ(cache.left_out()[0].line, 4);
    EXPECT_NE(cache.left_out()[0].reason.find("cut short"), std::string::npos);
    EXPECT_NE(cache.left_out()[1].reason.find("not there"), std::string::npos);
    for (const FailedStudy& study : cache.left_out())
      EXPECT_EQ(study.reason.find("scan"), std::string::npos) << "a path: " << study.reason;
    EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());
  }
  const Cache cache(cohort.cache());
  std::vector<std::vector<float>> volumes;
  for (std::int64_t i = 0; i < 6; ++i) volumes.push_back(read_volume(cache, i));
  cohort.write_image(4, 4);
  const CacheCohort whole(8);
  whole.build();
  const Cache all(whole.cache());
  for (const std::size_t i : {0U, 1U, 3U, 5U, 6U, 7U})
    EXPECT_EQ(volumes[i - (i > 2 ? 1 : 0) - (i > 4 ? 1 : 0)],
              read_volume(all, static_cast<std::int64_t>(i)));
}

TEST(LeftOut, TheNextBuildTriesThemAgainAndNothingElse) {
  const CacheCohort cohort(8);
  cohort.cut_image(2);
  cohort.cut_image(7);
  EXPECT_EQ(cohort.build(), 6);
  const Files before = cache_files(cohort);
  EXPECT_EQ(cohort.build(), 0);
  EXPECT_TRUE(cache_files(cohort) == before);
  cohort.write_image(7, 7);
  EXPECT_EQ(cohort.build(), 2) << "the shard of the scan that is well now";
  EXPECT_EQ(left_out_ids(Cache(cohort.cache())), (Ids{"id2"}));
  cohort.write_image(2, 2);
  EXPECT_EQ(cohort.build(), 3);
  const Files mended = cache_files(cohort);
  cohort.empty_cache();
  cohort.build();
  EXPECT_EQ(mended.size(), 4U);
  for (const auto& [name, bytes] : cache_files(cohort)) {
    EXPECT_TRUE(mended.at(name) == bytes) << name;
  }
}

TEST(LeftOut, AScanThatGoesBadTakesItsShardAlong) {
  const CacheCohort cohort(8);
  cohort.build();
  cohort.cut_image(4);
  EXPECT_EQ(cohort.build(), 2);
  EXPECT_EQ(left_out_ids(Cache(cohort.cache())), (Ids{"id4"}));
}

TEST(LeftOut, AShardOfBadScansIsNoFileAndACacheOfThemAnError) {
  const CacheCohort cohort(8);
  cohort.build();
  for (const std::int64_t i : {3, 4, 5}) cohort.cut_image(i);
  EXPECT_EQ(cohort.build(), 0);
  EXPECT_FALSE(std::filesystem::exists(cohort.cache() / "shard-00001.h5"));
  EXPECT_EQ(Cache(cohort.cache()).entries().size(), 5U);
  EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());
  for (const std::int64_t i : {0, 1, 2, 6, 7}) cohort.cut_image(i);
  expect_error<DataError>([&] { cohort.build(); }, ExitCode::kBadData,
                          {"none of the 8 studies", "'id0' (line 2)", "cut short"});
}

TEST(LeftOut, AStrictBuildEndsAtTheFirstAndLeavesNoShard) {
  const CacheCohort cohort(4);
  cohort.cut_image(2);
  CacheBuildOptions strict = cohort.options();
  strict.is_strict = true;
  strict.num_threads = 3;
  expect_error<DataError>([&] { cohort.build(strict); }, ExitCode::kBadData,
                          {"cut short", "study 'id2'", "line 4", "scan2.nii.gz", "manifest.csv"});
  EXPECT_TRUE(files_in(cohort.cache()).empty());
  std::filesystem::remove(cohort.image(3));
  expect_error<DataError>([&] { cohort.build(strict); }, ExitCode::kMissingInput,
                          {"line 5", "scan3.nii.gz"});
  cohort.build();
  cohort.write_image(3, 3);
  expect_error<DataError>([&] { cohort.build(strict); }, ExitCode::kBadData, {"study 'id2'"});
}

TEST(LeftOut, ImagesThatAreAllOrSuddenlyNotThereAreAMistakeOfThePath) {
  const CacheCohort cohort(4);
  cohort.build();
  std::filesystem::rename(cohort.image(1), cohort.folder() / "away");
  expect_error<DataError>([&] { cohort.build(); }, ExitCode::kMissingInput,
                          {"scan1.nii.gz", "'id1' (line 3", "not there any more"});
  EXPECT_EQ(Cache(cohort.cache()).entries().size(), 4U) << "the cache is as it was";
  for (const std::int64_t i : {0, 2, 3}) std::filesystem::remove(cohort.image(i));
  cohort.empty_cache();
  expect_error<DataError>([&] { cohort.build(); }, ExitCode::kMissingInput,
                          {"line 2", "scan0.nii.gz"});
}

TEST(LeftOut, WhatMayBeTheDisksFaultIsNotTheStudys) {
  const CacheCohort cohort(2);
  const CachePlan plan = plan_cache_build(cohort.options(), 1);
  const auto fault_at = [&](auto throw_it) {
    return fault_of_study(plan, 1, [&](const StudyRecord&) { throw_it(); });
  };
  EXPECT_FALSE(fault_at([] {}).has_value());
  EXPECT_TRUE(fault_at([] { throw DataError("cut short"); }).has_value());
  EXPECT_TRUE(fault_at([] { throw IoError("not yours", ExitCode::kPermission); }).has_value());
  expect_error<IoError>([&] { fault_at([] { throw IoError("rotten", ExitCode::kIo); }); },
                        ExitCode::kIo, {"rotten", "study 'id1'"});
  EXPECT_THROW(fault_at([] { throw InternalError("ours"); }), InternalError);
}

// --- compression ---

TEST(ChunkCompression, BytesComeBackAndDamageDoesNotPassForThem) {
  KeyedRandom random{7};
  for (const std::int64_t width : {2, 4})
    for (const std::size_t count : {1U, 2U, 3U, 1000U, 70001U}) {
      std::vector<std::byte> bytes(count * static_cast<std::size_t>(width));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(20));
      const std::vector<std::byte> stored = compress_chunk(bytes, width);
      EXPECT_LE(static_cast<std::int64_t>(stored.size()),
                compress_bound(static_cast<std::int64_t>(bytes.size())));
      std::vector<std::byte> back(bytes.size());
      decompress_chunk(stored, width, back);
      EXPECT_EQ(back, bytes);
      std::vector<std::byte> more(bytes.size() + static_cast<std::size_t>(width));
      EXPECT_THROW(decompress_chunk(stored, width, more), DataError);
      std::vector<std::byte> fewer(bytes.size() - static_cast<std::size_t>(width));
      EXPECT_THROW(decompress_chunk(stored, width, fewer), DataError);
      EXPECT_THROW(decompress_chunk(std::span(stored).first(stored.size() - 1), width, back),
                   DataError);
    }
}

/// Through HDF5's own pipeline, as another program reads it.
TEST(ChunkCompression, Hdf5ReadsWhatWeStore) {
  const CacheCohort cohort(4);
  for (const Storage storage : {Storage::kUint16, Storage::kFloat32}) {
    CacheBuildOptions options = cohort.options();
    options.preprocess = test::small_grid(storage);
    options.compression = Compression::kZstd;
    cohort.build(options);
    const std::vector<float> expected = read_volume(Cache(cohort.cache()), 0);
    const auto held = h5::lock();
    const h5::Id file = h5::open_file(cohort.cache() / "shard-00000.h5");
    const h5::Id volumes = h5::open_dataset(file, "volumes");
    const auto count = static_cast<std::size_t>(h5::shape_of(volumes, 4)[0]);
    std::vector<float> all(count * expected.size());
    ASSERT_GE(H5Dread(volumes.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()),
              0);
    const auto scale = static_cast<float>(h5::read_double_attribute(volumes, "scale"));
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(all[i] * scale, expected[i]);
  }
}

/// What a user sees who knows HDF5's own tools alone (package hdf5-tools).
TEST(Shard, H5dumpShowsItsParts) {
  const CacheCohort cohort(4);
  for (const Compression compression : {Compression::kNone, Compression::kZstd}) {
    CacheBuildOptions options = cohort.options();
    options.compression = compression;
    cohort.build(options);
    const test::CommandResult shown =
        test::run_command("h5dump -H -p " + (cohort.cache() / "shard-00000.h5").string());
    ASSERT_EQ(shown.exit_code, 0) << shown.output << "\nlaunch/setup.sh installs h5dump";
    for (const char* word :
         {"DATASET \"volumes\"", "H5T_STD_U16LE", "( 3, 7, 6, 5 )", "CHUNKED ( 1, 7, 6, 5 )",
          "ATTRIBUTE \"scale\"", "DATASET \"tokens\"", "DATASET \"report\"", "H5T_CSET_UTF8",
          "ATTRIBUTE \"findings\"", "DATASET \"chunk_hash\"", "ATTRIBUTE \"spec\""})
      EXPECT_NE(shown.output.find(word), std::string::npos) << word << " in\n" << shown.output;
    EXPECT_EQ(shown.output.find("FILTER_ID 32015") != std::string::npos,
              compression == Compression::kZstd)
        << shown.output;
  }
}

TEST(CacheFormat, ACacheOfEarlierIsStillRead) {
  const Cache cache(test::golden_folder() / "cache");
  EXPECT_TRUE(verify_cache(test::golden_folder() / "cache", [] {}).empty());
  ASSERT_EQ(cache.entries().size(), 2U);
  EXPECT_EQ(cache.entries()[1].site, "source");
  EXPECT_EQ(cache.findings().size(), 11U);
  double sum = 0;
  for (const std::int64_t i : {0, 1})
    for (const float voxel : read_volume(cache, i)) sum += static_cast<double>(voxel);
  EXPECT_NEAR(sum, 6.672556649, 1e-5) << "what h5py reads";
}

TEST(ChunkCompression, IsPartOfTheSpecificationAndOldCachesKeepTheirs) {
  CacheSpec spec;
  EXPECT_EQ(spec.text().find("compression"), std::string::npos);
  CacheSpec packed = spec;
  packed.compression = Compression::kZstd;
  EXPECT_NE(packed.hash(), spec.hash());
  EXPECT_THROW((void)compression_from_name("gzip"), ConfigError);
}

// --- two builds at once ---

TEST(FolderLock, OneBuildAtATimeAndTheOtherIsToldWhoItIs) {
  const TemporaryFolder folder;
  {
    const FolderLock first(folder.path(), FolderLock::Role::kLead, 0);
    const FolderLock follower(folder.path(), FolderLock::Role::kFollow, 0);
    const FolderLock another_follower(folder.path(), FolderLock::Role::kFollow, 0);
    expect_error<IoError>(
        [&] { const FolderLock second(folder.path(), FolderLock::Role::kLead, 0.1); },
        ExitCode::kCannotCreateOutput,
        {"another build", str("process ", ::getpid(), " on "), "another folder"});
  }
  EXPECT_TRUE(files_in(folder.path()).empty());
  const FolderLock later(folder.path(), FolderLock::Role::kLead, 0);
  EXPECT_TRUE(later.is_effective());
}

TEST(FolderLock, ALeadWaitsForTheFollowersOfADeadOne) {
  const TemporaryFolder folder;
  const pid_t lead = ::fork();
  ASSERT_GE(lead, 0);
  if (lead == 0) {
    const FolderLock lock(folder.path(), FolderLock::Role::kLead, 0);
    ::kill(::getpid(), SIGKILL);
  }
  ASSERT_EQ(::waitpid(lead, nullptr, 0), lead);
  EXPECT_TRUE(std::filesystem::exists(folder / ".build.lock")) << "nobody was left to delete it";
  auto follower =
      std::make_unique<FolderLock>(folder.path(), FolderLock::Role::kFollow, 0);
  EXPECT_THROW(FolderLock(folder.path(), FolderLock::Role::kLead, 0.1), IoError);
  std::jthread ends([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    follower.reset();
  });
  EXPECT_NO_THROW(FolderLock(folder.path(), FolderLock::Role::kLead, 30));
}

// --- sudden death ---

/// One rank of a build of two, as a process of its own; ranks meet where those of a real build do.
void build_as_rank(const CacheCohort& cohort, const CacheBuildOptions& options, int rank,
                   int to_other, int from_other) {
  const auto meet = [&](std::int64_t word = 0) {
    if (::write(to_other, &word, sizeof word) != sizeof word ||
        ::read(from_other, &word, sizeof word) != sizeof word)
      throw CommError("the other rank is gone");
    return word;
  };
  std::optional<FolderLock> lock;
  if (rank == 0) lock.emplace(cohort.cache(), FolderLock::Role::kLead);
  meet();
  if (rank == 1) lock.emplace(cohort.cache(), FolderLock::Role::kFollow);
  CachePlan plan = plan_cache_build(options, 2);
  meet();
  std::vector<FailedStudy> failed = build_cache_shards(plan, rank, 2, [] {});
  const std::int64_t others = meet(failed.empty() ? -1 : failed[0].record_index);
  if (rank == 1) return;
  const Tokenizer tokenizer(options.tokenizer_dir);
  if (others >= 0)  // only the number came along
    failed.push_back(*fault_of_study(plan, others, [&](const StudyRecord& study) {
      static_cast<void>(prepare_study(plan, study, tokenizer));
    }));
  finish_cache(plan, failed);
}

/// Starts both ranks and lets `end` do with them what it likes. @return whether both ended well
bool build_in_two_processes(const CacheCohort& cohort, const CacheBuildOptions& options,
                            const std::function<void(pid_t, pid_t)>& end) {
  std::array<int, 2> up{}, down{};
  if (::pipe(up.data()) != 0 || ::pipe(down.data()) != 0) return false;
  std::array<pid_t, 2> ranks{};
  for (int rank = 0; rank < 2; ++rank) {
    ranks[static_cast<std::size_t>(rank)] = ::fork();
    if (ranks[static_cast<std::size_t>(rank)] != 0) continue;
    ::signal(SIGPIPE, SIG_IGN);
    ::close(rank == 0 ? up[0] : down[0]);  // a rank that is alone must not wait for itself
    ::close(rank == 0 ? down[1] : up[1]);
    try {
      build_as_rank(cohort, options, rank, rank == 0 ? up[1] : down[1], rank == 0 ? down[0] : up[0]);
    } catch (const CommError&) {  // killed
      ::_exit(1);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  for (const int descriptor : {up[0], up[1], down[0], down[1]}) ::close(descriptor);
  end(ranks[0], ranks[1]);
  bool all_well = true;
  for (const pid_t rank : ranks) {
    int status = 0;
    ::waitpid(rank, &status, 0);
    all_well = all_well && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  return all_well;
}

TEST(KilledBuild, IsFinishedByTheNextWithTheBytesOfAnUndisturbedOne) {
  const CacheCohort cohort(40);
  cohort.cut_image(17);
  for (const Compression compression : {Compression::kNone, Compression::kZstd}) {
    CacheBuildOptions options = cohort.options();
    options.compression = compression;
    cohort.empty_cache();
    const auto start = std::chrono::steady_clock::now();
    cohort.build(options, 2);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    const Files expected = cache_files(cohort);
    ASSERT_EQ(expected.size(), 15U);
    KeyedRandom random{77};
    int num_unfinished = 0;
    for (int i = 0; i < 25; ++i) {
      SCOPED_TRACE(i);
      cohort.empty_cache();
      const auto wait = [&](double share) {
        std::this_thread::sleep_for(share * took);
      };
      const bool was_finished = build_in_two_processes(cohort, options, [&](pid_t a, pid_t b) {
        if (random.chance(0.5)) std::swap(a, b);
        wait(random.uniform());
        ::kill(a, SIGKILL);
        wait(random.uniform(0, 0.1));  // the other may go on for a while
        ::kill(b, SIGKILL);
      });
      num_unfinished += was_finished ? 0 : 1;
      ASSERT_TRUE(build_in_two_processes(cohort, options, [](pid_t, pid_t) {}));
      EXPECT_TRUE(cache_files(cohort) == expected);
    }
    EXPECT_GE(num_unfinished, 10) << "hardly a build was killed before its end";
  }
}

// --- a full disk ---

TEST(FullDisk, EndsABuildWith74AndTheNextFindsWhatWasFinished) {
  const CacheCohort cohort(8);
  std::int64_t whole = 0;
  {
    const FullDisk counting(std::int64_t{1} << 40);
    cohort.build();
    whole = counting.num_written();
  }
  const Files expected = cache_files(cohort);
  ASSERT_GT(whole, 40'000);
  std::int64_t most_saved = 0;
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE(i);
    cohort.empty_cache();
    {
      const FullDisk disk(whole * i / 20);
      expect_error<IoError>([&] { cohort.build(); }, ExitCode::kIo, {"Free some space"});
    }
    for (const auto& [name, bytes] : cache_files(cohort)) {
      ASSERT_TRUE(expected.contains(name)) << name;
      EXPECT_TRUE(expected.at(name) == bytes) << "half of " << name;
    }
    most_saved = std::max(most_saved, 8 - cohort.build());
    EXPECT_TRUE(cache_files(cohort) == expected);
  }
  EXPECT_GE(most_saved, 6) << "finished shards were built again";
}

TEST(FullDisk, LeavesTheOldShardsOfACacheThatIsRenewed) {
  CacheCohort cohort(8);
  cohort.build();
  const Files before = cache_files(cohort);
  std::string& row = cohort.rows()[4];
  row.replace(row.find("liver"), 5, "Liver");
  cohort.write_manifest();
  for (const std::int64_t bytes : {0, 3000, 9000}) {
    const FullDisk disk(bytes);
    expect_error<IoError>([&] { cohort.build(); }, ExitCode::kIo, {"Free some space"});
    EXPECT_TRUE(cache_files(cohort) == before);
  }
  EXPECT_EQ(Cache(cohort.cache()).entries().size(), 8U);
  EXPECT_EQ(cohort.build(), 3);
}

}  // namespace
}  // namespace triphase::data
