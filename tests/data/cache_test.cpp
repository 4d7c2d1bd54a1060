// SPDX-License-Identifier: Apache-2.0
#include "data/cache.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "base/json.hpp"
#include "base/parallel.hpp"
#include "base/random.hpp"
#include "data/affine.hpp"
#include "data/nifti.hpp"
#include "data/tokenizer.hpp"
#include "data/voxel_codec.hpp"
#include "tests/data/cache_cohort.hpp"

namespace triphase::data {
namespace {

using test::CacheCohort;
using test::expect_error;
using test::read_text;
using test::read_volume;
using test::write_text;

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

void touch_later(const std::filesystem::path& path) {
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::seconds(5));
}

TEST(Cache, VolumesComeBackWithinTheStorageTypesError) {
  const CacheCohort cohort(5);
  struct Case {
    Storage storage;
    double bound;
  };
  // Half a step of 65535 (and the float32 arithmetic of decoding); half an ulp of a half in [0.5,
  // 1); nothing.
  for (const auto& [storage, bound] :
       {Case{Storage::kUint16, 0.5 / 65535 + 6e-8}, Case{Storage::kFloat16, 0x1p-12},
        Case{Storage::kFloat32, 0.0}}) {
    std::vector<std::vector<float>> plain;
    for (const Compression compression : {Compression::kNone, Compression::kZstd}) {
      SCOPED_TRACE(storage_name(storage) + " " + compression_name(compression));
      CacheBuildOptions options = cohort.options();
      options.preprocess = test::small_grid(storage);
      options.compression = compression;
      cohort.build(options);
      const Cache cache(cohort.cache());
      ASSERT_EQ(cache.entries().size(), 5U);
      EXPECT_EQ(cache.spec().compression, compression);
      for (std::int64_t i = 0; i < 5; ++i) {
        const Volume expected = preprocess(read_nifti(cohort.image(i)), options.preprocess);
        const std::vector<float> voxels = read_volume(cache, i);
        double worst = 0;
        for (std::size_t v = 0; v < voxels.size(); ++v)
          worst = std::max(worst, std::abs(static_cast<double>(voxels[v]) -
                                           static_cast<double>(expected.voxels[v])));
        EXPECT_LE(worst, bound) << "volume " << i;
        EXPECT_EQ(cache.entries()[static_cast<std::size_t>(i)].affine, expected.affine);
        plain.push_back(voxels);
        EXPECT_EQ(voxels, plain[static_cast<std::size_t>(i)]) << "compression lost something";
        std::vector<std::uint16_t> narrow(voxels.size());
        cache.read_volume(i, narrow.data());
        for (std::size_t v = 0; v < voxels.size(); ++v)
          ASSERT_EQ(narrow[v], bfloat16_from_float(voxels[v]));
      }
      EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());
    }
  }
}

TEST(Cache, OneLargerThanAPieceIsReadWhole) {  // see Note [Reading a volume]
  const CacheCohort cohort(2);
  for (const Storage storage : {Storage::kUint16, Storage::kFloat32}) {
    CacheBuildOptions options = cohort.options();
    options.preprocess = test::small_grid(storage);
    options.preprocess.spacing_mm = {0.25, 0.25, 0.25};
    options.preprocess.volume_shape = {45, 43, 41};
    options.shard_bytes = 1 << 20;
    cohort.build(options);
    const Cache cache(cohort.cache());
    const Volume expected = preprocess(read_nifti(cohort.image(1)), options.preprocess);
    const std::vector<float> voxels = read_volume(cache, 1);
    ASSERT_EQ(voxels.size(), expected.voxels.size());
    for (std::size_t v = 0; v < voxels.size(); ++v)
      ASSERT_NEAR(voxels[v], expected.voxels[v], 0.5 / 65535 + 6e-8) << v;
    std::vector<std::byte> stored(static_cast<std::size_t>(cache.stored_bytes(1)));
    cache.read_stored(1, stored.data());
    std::vector<float> decoded(voxels.size());
    decode_voxels(stored, codec_for(options.preprocess), std::span<float>(decoded));
    EXPECT_EQ(decoded, voxels);
  }
}

TEST(Cache, FactsOfEverySampleComeBack) {
  const CacheCohort cohort(7);
  cohort.build();
  const Cache cache(cohort.cache());
  const Manifest manifest = read_manifest(cohort.options().manifest);
  const Tokenizer tokenizer(cohort.options().tokenizer_dir);
  EXPECT_EQ(cache.findings(), manifest.findings);
  ASSERT_EQ(cache.entries().size(), manifest.records.size());
  for (std::size_t i = 0; i < manifest.records.size(); ++i) {
    const StudyRecord& record = manifest.records[i];
    const CacheEntry& entry = cache.entries()[i];
    EXPECT_EQ(entry.id, record.id);
    EXPECT_EQ(entry.patient_id, record.patient_id);
    EXPECT_EQ(entry.site, record.site);
    EXPECT_EQ(entry.split, record.split);
    EXPECT_EQ(entry.labels, record.labels);
    EXPECT_EQ(entry.tokens, tokenizer.encode(sanitize_report(record.report), 64));
  }
  EXPECT_EQ(cache.spec().tokenizer_hash, tokenizer.hash());
  EXPECT_EQ(cache.spec().preprocess.preset, "merlin");
  EXPECT_NO_THROW(check_cache_spec(cache, plan_cache_build(cohort.options(), 1).spec));
}

TEST(Cache, NeedsNoLabelColumns) {
  const CacheCohort cohort(4);
  std::string text = "id,patient_id,site,split,image,report\n";
  for (int i = 0; i < 4; ++i)
    text += str("id", i, ",p", i, ",north,train,", cohort.image(i).filename().string(), ",Liver.\n");
  test::write_text(cohort.folder() / "manifest.csv", text);
  EXPECT_EQ(cohort.build(), 4);
  const Cache cache(cohort.cache());
  EXPECT_TRUE(cache.findings().empty());
  EXPECT_EQ(cache.entries().size(), 4U);
  EXPECT_EQ(cohort.build(), 0);  // the shards are read again and found to fit
}

TEST(Cache, ManyThreadsReadTheSameAsOne) {
  const CacheCohort cohort(7);
  cohort.build();
  const Cache cache(cohort.cache());
  std::vector<std::vector<float>> expected;
  for (std::int64_t i = 0; i < 7; ++i) expected.push_back(read_volume(cache, i));
  parallel_for(200, 4, [&](std::int64_t i) {
    if (read_volume(cache, i % 7) != expected[static_cast<std::size_t>(i % 7)])
      throw InternalError("another volume");
  });
}

TEST(Cache, AnotherBuildOrNumberOfRanksOrThreadsGivesTheSameBytes) {
  const CacheCohort cohort(11);
  cohort.cut_image(3);
  for (const Compression compression : {Compression::kNone, Compression::kZstd}) {
    std::vector<std::map<std::string, std::string>> contents;
    struct Case {
      int num_ranks;
      int num_threads;
    };
    for (const auto& [num_ranks, num_threads] : {Case{1, 1}, Case{2, 1}, Case{3, 3}, Case{1, 4}}) {
      cohort.empty_cache();
      CacheBuildOptions options = cohort.options();
      options.num_threads = num_threads;
      options.compression = compression;
      EXPECT_EQ(cohort.build(options, num_ranks), 10);
      contents.push_back(test::files_in(cohort.cache()));
      contents.back().erase("shard_times.json");
      EXPECT_EQ(contents.back().size(), 5U);
    }
    for (std::size_t i = 1; i < contents.size(); ++i)
      EXPECT_TRUE(contents[i] == contents[0]) << "case " << i;
  }
}

TEST(CachePlan, EveryRecordIsInOneShardAndEveryRankHasOne) {
  for (const std::int64_t num_studies : {1, 2, 5, 9}) {
    const CacheCohort cohort(num_studies);
    for (const std::int64_t min_shards : {1, 2, 4, 20}) {
      const CachePlan plan = plan_cache_build(cohort.options(), min_shards);
      std::vector<std::int64_t> seen;
      for (const ShardTask& task : plan.shards) {
        EXPECT_LE(task.record_indices.size(), 3U);
        EXPECT_FALSE(task.up_to_date);
        seen.insert(seen.end(), task.record_indices.begin(), task.record_indices.end());
      }
      std::vector<std::int64_t> all(static_cast<std::size_t>(num_studies));
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
      EXPECT_EQ(seen, all);
      EXPECT_GE(static_cast<std::int64_t>(plan.shards.size()), std::min(min_shards, num_studies));
      EXPECT_EQ(plan.num_stale_volumes(), num_studies);
    }
  }
}

TEST(CacheBuild, OnlyWhatChangedIsBuiltAgain) {
  CacheCohort cohort(8);  // shards of three, three and two volumes
  EXPECT_EQ(cohort.build(), 8);
  EXPECT_EQ(cohort.build(), 0);
  EXPECT_EQ(cohort.build(cohort.options(), 3), 0) << "another number of ranks";

  touch_later(cohort.image(0));
  EXPECT_EQ(cohort.build(), 0) << "a new time with the same content";
  cohort.write_image(4, 99);
  touch_later(cohort.image(4));
  EXPECT_EQ(cohort.build(), 3) << "a new image";
  std::string& label_row = cohort.rows()[0];
  label_row.replace(label_row.rfind(',') - 1, 1, "1");
  cohort.write_manifest();
  EXPECT_EQ(cohort.build(), 3) << "a new label";
  std::string& report_row = cohort.rows()[7];
  report_row.replace(report_row.find("liver"), 5, "Liver");
  cohort.write_manifest();
  EXPECT_EQ(cohort.build(), 2) << "a new report";
  std::filesystem::remove(cohort.cache() / "shard-00001.h5");
  EXPECT_EQ(cohort.build(), 3) << "a lost shard";

  cohort.write_image(8, 8);
  cohort.rows().push_back("p8,north,train,scan8.nii.gz,More.,1,0");
  cohort.write_manifest();
  EXPECT_EQ(cohort.build(), 3) << "a study more";
  EXPECT_EQ(cohort.build(), 0);
  EXPECT_EQ(Cache(cohort.cache()).entries().size(), 9U);

  CacheBuildOptions other = cohort.options();
  other.max_text_tokens = 32;
  EXPECT_EQ(cohort.build(other), 9) << "another specification";
  EXPECT_EQ(Cache(cohort.cache()).spec().max_text_tokens, 32);
}

/// A scan whose manifest says what its file does not is cached as the scan that it should have been.
TEST(CacheBuild, ACorrectedScanIsCachedAsTheScanThatItShouldHaveBeen) {
  CacheCohort right(3), raw(3);
  const Volume scan = read_nifti(right.image(0));
  Volume stored = scan;  // as a scanner's numbers, with other spacings
  for (float& voxel : stored.voxels) voxel = (voxel + 1024) / 2;
  for (float& voxel : stored.voxels) voxel = std::floor(voxel);
  Volume wanted = scan;
  for (std::size_t i = 0; i < wanted.voxels.size(); ++i) wanted.voxels[i] = 2 * stored.voxels[i] - 1024;
  for (std::size_t row = 0; row < 3; ++row) {
    wanted.affine[row][0] *= 1.5;
    wanted.affine[row][2] *= 0.75;
  }
  write_nifti(right.image(0), wanted);
  write_nifti(raw.image(0), stored);
  const auto spacings = column_norms(linear_part(wanted.affine));
  const auto write_manifest = [&](const std::string& correction) {
    std::string text = read_text(raw.options().manifest);
    if (!text.starts_with("hu_slope")) text = "hu_slope,hu_intercept,spacing_x_mm,spacing_z_mm," + text;
    std::string lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      if (line.find("id0,") != std::string::npos)
        line = correction + line.substr(line.find("id0,"));
      else if (!line.starts_with("hu_slope") && !line.starts_with(",,,,"))
        line = ",,,," + line;
      lines += line + "\n";
    }
    write_text(raw.options().manifest, lines);
  };
  right.build();
  write_manifest(str("2,-1024,", spacings[0], ",", spacings[2], ","));
  EXPECT_EQ(raw.build(), 3);
  EXPECT_EQ(raw.build(), 0) << "nothing changed";
  EXPECT_EQ(read_volume(Cache(raw.cache()), 0), read_volume(Cache(right.cache()), 0));
  EXPECT_EQ(Cache(raw.cache()).entries()[0].affine, Cache(right.cache()).entries()[0].affine);
  write_manifest("2,-1000,,,");
  EXPECT_EQ(raw.build(), 3) << "another correction";
  EXPECT_NE(read_volume(Cache(raw.cache()), 0), read_volume(Cache(right.cache()), 0));
}

TEST(CacheBuild, AReportGroupReachesTheCacheAndItsHash) {
  CacheCohort cohort(4);
  cohort.build();
  const std::string before = Cache(cohort.cache()).data_hash();
  std::string text = read_text(cohort.options().manifest);
  std::string lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines += line + (line.starts_with("id,") ? ",report_group" : line.starts_with("id1") || line.starts_with("id2") ? ",g" : ",") + "\n";
  write_text(cohort.options().manifest, lines);
  EXPECT_EQ(cohort.build(), 3);  // the shard of the first three
  const Cache cache(cohort.cache());
  EXPECT_EQ(cache.entries()[0].report_group, "");
  EXPECT_EQ(cache.entries()[1].report_group, "g");
  EXPECT_EQ(cache.entries()[2].report_group, "g");
  EXPECT_NE(cache.data_hash(), before);
}

TEST(CacheBuild, LeftoversOfACrashAreNoHindranceAndGoAway) {
  CacheCohort cohort(8);
  {  // rank 0 of 2 built its shards, then the job died in the middle of one
    const CachePlan plan = plan_cache_build(cohort.options(), 2);
    build_cache_shards(plan, 0, 2, [] {});
    write_text(cohort.cache() / "shard-00001.h5.part", "half a shard");
    write_text(cohort.cache() / ".cache.json.123.0.part", "{");
  }
  expect_error<DataError>([&] { Cache cache(cohort.cache()); }, ExitCode::kMissingInput,
                          {"cache.json", "triphase cache build"});
  EXPECT_EQ(cohort.build(), 3) << "only the shard of the other rank";
  EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());

  write_text(cohort.cache() / "shard-00009.h5", "an old shard");
  write_text(cohort.cache() / "notes.txt", "mine");
  cohort.rows().resize(3);
  cohort.write_manifest();
  EXPECT_EQ(cohort.build(), 0);
  EXPECT_EQ(names_in(cohort.cache()),
            (std::set<std::string>{"cache.json", "notes.txt", "shard-00000.h5", "shard_times.json"}));
}

std::map<std::string, std::string> shards_in(const std::filesystem::path& folder) {
  std::map<std::string, std::string> shards;
  for (const std::string& name : names_in(folder))
    if (name.starts_with("shard-")) shards[name] = read_text(folder / name);
  return shards;
}

TEST(CacheBuild, HowManyRanksBuiltItDoesNotChangeWhatASampleIs) {
  const CacheCohort cohort(7);
  CacheBuildOptions options = cohort.options();
  options.shard_bytes = 1 << 20;  // one rank would put all into one shard
  std::vector<std::vector<float>> volumes;
  std::vector<CacheEntry> entries;
  std::string data_hash;
  for (const int num_ranks : {1, 2, 3}) {
    SCOPED_TRACE(num_ranks);
    for (const std::string& name : names_in(cohort.cache()))
      std::filesystem::remove(cohort.cache() / name);
    EXPECT_EQ(cohort.build(options, num_ranks), 7);
    EXPECT_GE(shards_in(cohort.cache()).size(), static_cast<std::size_t>(num_ranks));
    const Cache cache(cohort.cache());
    ASSERT_EQ(cache.entries().size(), 7U);
    if (num_ranks == 1) {
      entries = cache.entries();
      data_hash = cache.data_hash();
      for (std::int64_t i = 0; i < 7; ++i) volumes.push_back(read_volume(cache, i));
    }
    EXPECT_EQ(cache.data_hash(), data_hash);
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(read_volume(cache, static_cast<std::int64_t>(i)), volumes[i]) << i;
      EXPECT_EQ(cache.entries()[i].id, entries[i].id);
      EXPECT_EQ(cache.entries()[i].tokens, entries[i].tokens);
      EXPECT_EQ(cache.entries()[i].labels, entries[i].labels);
    }
  }
}

TEST(Cache, SelectionFollowsSplitAndSite) {
  const CacheCohort cohort(12);
  cohort.build();
  const Cache cache(cohort.cache());
  EXPECT_EQ(cache.select("all", {}).size(), 12U);
  std::size_t sum = 0;
  for (const char* split : {"train", "test"})
    for (const char* site : {"north", "südwest"})
      for (const std::int64_t index : cache.select(split, {site})) {
        EXPECT_EQ(cache.entries()[static_cast<std::size_t>(index)].split, split);
        EXPECT_EQ(cache.entries()[static_cast<std::size_t>(index)].site, site);
        ++sum;
      }
  EXPECT_EQ(sum, 12U);
  expect_error<DataError>([&] { (void)cache.select("validation", {}); }, ExitCode::kBadData,
                          {"'validation'", "'train'", "'test'", "'north'"});
  expect_error<DataError>([&] { (void)cache.select("train", {"south"}); }, ExitCode::kBadData,
                          {"'south'", "'südwest'"});
}

TEST(Cache, AnotherSpecificationIsRefusedFieldByField) {
  const CacheCohort cohort(2);
  cohort.build();
  const Cache cache(cohort.cache());
  CacheSpec wanted = cache.spec();
  EXPECT_NO_THROW(check_cache_spec(cache, wanted));
  wanted.preprocess.spacing_mm[2] = 2.5;
  wanted.max_text_tokens = 512;
  expect_error<DataError>([&] { check_cache_spec(cache, wanted); }, ExitCode::kBadData,
                          {"preprocess.spacing_mm", "[1.5,1.5,3.0]", "[1.5,1.5,2.5]",
                           "max_text_tokens: the cache has 64, this run wants 512"});
  try {
    check_cache_spec(cache, wanted);
  } catch (const DataError& error) {
    EXPECT_EQ(std::string(error.what()).find("window_hu"), std::string::npos) << "not different";
  }
}

TEST(Cache, TheDataHashFollowsTheContent) {
  CacheCohort cohort(4);
  cohort.build();
  const std::string before = Cache(cohort.cache()).data_hash();
  cohort.build();
  EXPECT_EQ(Cache(cohort.cache()).data_hash(), before);
  std::string& row = cohort.rows()[1];
  row.replace(row.rfind(',') - 1, 1, "0");
  cohort.write_manifest();
  cohort.build();
  EXPECT_NE(Cache(cohort.cache()).data_hash(), before);
}

/// Opens the cache and reads every volume, as a run does.
void read_all(const std::filesystem::path& folder) {
  const Cache cache(folder);
  for (std::size_t v = 0; v < cache.entries().size(); ++v)
    (void)read_volume(cache, static_cast<std::int64_t>(v));
}

/// Verify says where, and no voxel or fact is handed out.
void expect_damage_is_found(const CacheCohort& cohort, const std::string& name) {
  const std::vector<std::string> lines = verify_cache(cohort.cache(), [] {});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].find(name), 0U) << lines[0];
  expect_error<DataError>([&] { read_all(cohort.cache()); }, ExitCode::kBadData, {name});
}

/// Whatever byte of whatever file is changed, and wherever it is cut.
TEST(CacheVerify, EveryFlippedByteAndEveryTruncationIsFound) {
  const CacheCohort cohort(4);
  for (const Compression compression : {Compression::kNone, Compression::kZstd}) {
    CacheBuildOptions options = cohort.options();
    options.compression = compression;
    cohort.build(options);
    for (const char* name : {"shard-00000.h5", "shard-00001.h5", "cache.json"}) {
      const std::filesystem::path path = cohort.cache() / name;
      const std::string bytes = read_text(path);
      KeyedRandom random{51, bytes.size()};
      for (int i = 0; i < 150; ++i) {
        const std::size_t place = random.below(bytes.size());
        SCOPED_TRACE(str(compression_name(compression), " ", name, " byte ", place));
        const bool is_cut = i % 3 == 2;
        std::string damaged = is_cut ? bytes.substr(0, place) : bytes;
        if (!is_cut) damaged[place] = static_cast<char>(damaged[place] ^ (1 << random.below(8)));
        write_text(path, damaged);
        expect_damage_is_found(cohort, name);
      }
      write_text(path, bytes);
    }
    EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());
  }
}

TEST(CacheVerify, ATruncatedShardIsMendedByBuildingAgain) {
  const CacheCohort cohort(4);
  cohort.build();
  const std::filesystem::path path = cohort.cache() / "shard-00000.h5";
  const std::string bytes = read_text(path);
  write_text(path, bytes.substr(0, bytes.size() / 2));
  EXPECT_EQ(cohort.build(), 3);
  EXPECT_TRUE(read_text(path) == bytes);
  EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());
}

TEST(CacheVerify, AShardOfAnotherSpecificationIsNamedAndMendedByBuildingAgain) {
  const CacheCohort cohort(4);
  CacheBuildOptions other = cohort.options();
  other.max_text_tokens = 32;
  cohort.build(other);
  const std::string strange = read_text(cohort.cache() / "shard-00001.h5");
  cohort.build();
  const std::map<std::string, std::string> expected = test::files_in(cohort.cache());
  write_text(cohort.cache() / "shard-00001.h5", strange);
  expect_damage_is_found(cohort, "shard-00001.h5");
  EXPECT_EQ(cohort.build(), 1);
  EXPECT_TRUE(read_text(cohort.cache() / "shard-00001.h5") == expected.at("shard-00001.h5"));
}

TEST(CacheVerify, ADamagedVolumeIsNamedAndMendedByBuildingAgain) {
  const CacheCohort cohort(4);
  cohort.build();
  const std::vector<float> untouched = read_volume(Cache(cohort.cache()), 0);
  const Json index = read_json(cohort.cache() / "cache.json");
  const auto offset = index.at("shards")[0].at("chunk_offsets")[1].get<std::size_t>();
  const std::filesystem::path path = cohort.cache() / "shard-00000.h5";
  std::string bytes = read_text(path);
  bytes[offset + 37] = static_cast<char>(bytes[offset + 37] ^ 1);
  write_text(path, bytes);

  const std::vector<std::string> lines = verify_cache(cohort.cache(), [] {});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("shard-00000.h5: volume 1"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("id 'id1'"), std::string::npos) << lines[0];
  const Cache cache(cohort.cache());
  expect_error<DataError>([&] { (void)read_volume(cache, 1); }, ExitCode::kBadData,
                          {"'id1'", "shard-00000.h5", str("from byte ", offset)});
  EXPECT_EQ(read_volume(cache, 0), untouched);
  EXPECT_EQ(cohort.build(), 3);
  EXPECT_TRUE(verify_cache(cohort.cache(), [] {}).empty());
}

TEST(CacheVerify, AMissingCacheOrShardIsNamed) {
  const CacheCohort cohort(4);
  expect_error<DataError>([&] { (void)verify_cache(cohort.cache(), [] {}); },
                          ExitCode::kMissingInput, {"cache.json"});
  cohort.build();
  std::filesystem::remove(cohort.cache() / "shard-00001.h5");
  expect_error<DataError>([&] { Cache cache(cohort.cache()); }, ExitCode::kBadData,
                          {"shard-00001.h5", "missing"});
  const std::vector<std::string> lines = verify_cache(cohort.cache(), [] {});
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_NE(lines[0].find("shard-00001.h5"), std::string::npos);
}

}  // namespace
}  // namespace triphase::data
