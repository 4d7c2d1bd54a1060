// SPDX-License-Identifier: Apache-2.0
// A cache that several ranks plan, build and check together, on threads with a short timeout.
#include "launch/cache_on_ranks.hpp"

#include "base/json.hpp"
#include "dist/runtime.hpp"
#include "tests/data/cache_cohort.hpp"
#include "tests/dist/backends.hpp"

#include <atomic>
#include <chrono>
#include <map>
#include <thread>

namespace triphase::launch {
namespace {

using dist::AgreedError;
using dist::ProcessGroup;
using test::CacheCohort;
using test::expect_error;
using test::files_in;
using test::read_text;
using test::run_on_threads;
using test::write_text;

// What a slow rank sleeps per piece, how often ranks meet, and a timeout that is much longer than
// both and shorter than the slow rank's share.
constexpr auto kSlowPiece = std::chrono::milliseconds(250);
constexpr double kRoundSeconds = 0.1;
constexpr double kTimeoutSeconds = 1.5;

void empty(const std::filesystem::path& folder) {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
}

void build(const CacheCohort& cohort, ProcessGroup& group) {
  const data::CachePlan plan = plan_cache_on_ranks(cohort.options(), group, kRoundSeconds);
  build_cache_on_ranks(plan, group, kRoundSeconds, [] {});
}

TEST(CacheOnRanks, ASlowRankIsWaitedForAndTheShardsAreThoseOfOneRank) {
  const CacheCohort cohort(30);  // ten shards
  cohort.build();
  const std::map<std::string, std::string> expected = files_in(cohort.cache());
  for (const int num_ranks : {2, 3}) {
    SCOPED_TRACE(num_ranks);
    empty(cohort.cache());
    run_on_threads(
        num_ranks,
        [&](ProcessGroup& group) {
          const data::CachePlan plan = plan_cache_on_ranks(cohort.options(), group, kRoundSeconds);
          build_cache_on_ranks(plan, group, kRoundSeconds, [&] {
            if (group.rank() == num_ranks - 1) std::this_thread::sleep_for(kSlowPiece);
          });
        },
        kTimeoutSeconds);
    std::map<std::string, std::string> built = files_in(cohort.cache());
    ASSERT_EQ(built.size(), expected.size());
    for (const auto& [name, bytes] : expected) {
      if (name != "shard_times.json") {
        EXPECT_TRUE(built[name] == bytes) << name;
      }
    }
    EXPECT_TRUE(data::verify_cache(cohort.cache(), [] {}).empty());
  }
}

TEST(CacheOnRanks, BadScansOfAnyRankAreLeftOutAndToldToAll) {
  const CacheCohort cohort(20);  // seven shards
  for (const std::int64_t study : {1, 10, 11, 19}) cohort.cut_image(study);
  for (const int num_ranks : {1, 2, 3}) {
    SCOPED_TRACE(num_ranks);
    empty(cohort.cache());
    for (const std::int64_t num_built : {16, 0})  // the second time there is nothing to build
      run_on_threads(num_ranks, [&](ProcessGroup& group) {
        const data::CachePlan plan = plan_cache_on_ranks(cohort.options(), group, kRoundSeconds);
        const BuildReport report = build_cache_on_ranks(plan, group, kRoundSeconds, [] {});
        std::vector<std::string> ids;
        for (const data::FailedStudy& study : report.failed) {
          ids.push_back(study.id);
          EXPECT_NE(study.reason.find("cut short"), std::string::npos) << study.reason;
        }
        EXPECT_EQ(ids, (std::vector<std::string>{"id1", "id10", "id11", "id19"}));
        EXPECT_EQ(report.num_built, num_built);
        EXPECT_EQ(report.totals.num_volumes, 16);
        EXPECT_EQ(report.totals.num_shards, 7);
      });
    const data::Cache cache(cohort.cache());
    EXPECT_EQ(cache.entries().size(), 16U);
    EXPECT_EQ(cache.left_out().size(), 4U);
  }
}

TEST(CacheOnRanks, ABadScanEndsAStrictBuildOnAllRanksSoonWithItsOwnMessage) {
  const CacheCohort cohort(60);
  cohort.cut_image(1);  // rank 0's second volume
  data::CacheBuildOptions strict = cohort.options();
  strict.is_strict = true;
  for (const int num_ranks : {2, 3}) {
    SCOPED_TRACE(num_ranks);
    std::atomic<int> num_built_elsewhere = 0;
    run_on_threads(
        num_ranks,
        [&](ProcessGroup& group) {
          const data::CachePlan plan = plan_cache_on_ranks(strict, group, kRoundSeconds);
          expect_error<AgreedError>(
              [&] {
                build_cache_on_ranks(plan, group, kRoundSeconds, [&] {
                  if (group.rank() == 0) return;
                  ++num_built_elsewhere;
                  std::this_thread::sleep_for(kSlowPiece);
                });
              },
              ExitCode::kBadData, {str("rank 0 of ", num_ranks), "study 'id1'", "scan1.nii.gz"});
        },
        kTimeoutSeconds);
    EXPECT_LE(num_built_elsewhere, 4 * (num_ranks - 1)) << "the others went on with their share";
    empty(cohort.cache());
  }
}

TEST(CacheOnRanks, LookingAtEarlierShardsIsWaitedForAndEndsSoon) {
  const CacheCohort cohort(30);
  cohort.build();
  for (std::int64_t i = 0; i < 30; ++i)  // every image has to be read to see that it is the same
    std::filesystem::last_write_time(cohort.image(i),
                                     std::filesystem::file_time_type::clock::now());
  for (const int num_ranks : {2, 3}) {
    SCOPED_TRACE(num_ranks);
    run_on_threads(
        num_ranks,
        [&](ProcessGroup& group) {
          const data::CachePlan plan =
              plan_cache_on_ranks(cohort.options(), group, kRoundSeconds, [&] {
                if (group.rank() == 0) std::this_thread::sleep_for(kSlowPiece);
              });
          EXPECT_EQ(plan.num_stale_volumes(), 0);
        },
        kTimeoutSeconds);
  }
}

TEST(CacheOnRanks, RanksThatSeeTheFolderDifferentlyBuildTheSame) {
  const CacheCohort cohort(8);  // three shards
  for (const int num_ranks : {1, 2, 3}) {
    for (int sees_nothing = 0; sees_nothing < num_ranks; ++sees_nothing) {
      SCOPED_TRACE(str("rank ", sees_nothing, " of ", num_ranks, " sees nothing"));
      empty(cohort.cache());
      cohort.build();
      // As a network file system may do it, one rank does not see what an earlier build wrote.
      std::filesystem::create_directory(cohort.folder() / "empty");
      std::vector<data::CachePlan> plans(static_cast<std::size_t>(num_ranks));
      run_on_threads(num_ranks, [&](ProcessGroup& group) {
        data::CacheBuildOptions options = cohort.options();
        options.shard_bytes = 1 << 20;  // a new division would make shards of eight volumes
        if (group.rank() == sees_nothing) options.out_dir = cohort.folder() / "empty";
        plans[static_cast<std::size_t>(group.rank())] =
            plan_cache_on_ranks(options, group, kRoundSeconds);
      });
      for (int rank = 0; rank < num_ranks; ++rank) {
        const data::CachePlan& plan = plans[static_cast<std::size_t>(rank)];
        ASSERT_EQ(plan.shards.size(), plans[0].shards.size()) << rank;
        for (std::size_t i = 0; i < plan.shards.size(); ++i) {
          EXPECT_EQ(plan.shards[i].up_to_date, plans[0].shards[i].up_to_date) << rank << " " << i;
          EXPECT_EQ(plan.shards[i].record_indices, plans[0].shards[i].record_indices);
        }
      }
    }
  }
}

TEST(CacheOnRanks, AnotherManifestOnOneRankIsRefused) {
  const CacheCohort cohort(4);
  const std::string text = read_text(cohort.folder() / "manifest.csv");
  const std::string shorter = text.substr(0, text.rfind("id3"));
  write_text(cohort.folder() / "shorter.csv", shorter);
  run_on_threads(2, [&](ProcessGroup& group) {
    data::CacheBuildOptions options = cohort.options();
    if (group.rank() == 1) options.manifest = cohort.folder() / "shorter.csv";
    expect_error<AgreedError>(
        [&] { static_cast<void>(plan_cache_on_ranks(options, group, kRoundSeconds)); },
        ExitCode::kCommunication, {"studies", "rank 0 has '4'", "rank 1 has '3'"});
  });
}

TEST(CacheOnRanks, AnotherSpecificationOnOneRankIsRefused) {
  const CacheCohort cohort(4);
  for (const int num_ranks : {2, 3})
    run_on_threads(num_ranks, [&](ProcessGroup& group) {
      data::CacheBuildOptions options = cohort.options();
      if (group.rank() == num_ranks - 1) options.max_text_tokens = 32;
      expect_error<AgreedError>(
          [&] { static_cast<void>(plan_cache_on_ranks(options, group, kRoundSeconds)); },
          ExitCode::kCommunication, {"disagree on cache specification"});
    });
}

TEST(CacheOnRanks, EveryStaleVolumeIsCountedOnOneRank) {
  const CacheCohort cohort(20);
  data::CachePlan plan = data::plan_cache_build(cohort.options(), 1);
  plan.shards[2].up_to_date = true;
  for (const int num_ranks : {1, 2, 3, 9}) {
    std::int64_t sum = 0;
    for (int rank = 0; rank < num_ranks; ++rank) sum += num_volumes_to_build(plan, rank, num_ranks);
    EXPECT_EQ(sum, plan.num_stale_volumes());
    EXPECT_EQ(sum, 17);
  }
}

/// Flips one bit in a volume and gives the file its time back, as rot on the disk does it.
void let_rot(const std::filesystem::path& folder, const Json& index, std::size_t shard,
             std::size_t volume) {
  const Json& entry = index.at("shards").at(shard);
  const std::filesystem::path path = folder / entry.at("file").get<std::string>();
  const auto time = std::filesystem::last_write_time(path);
  std::string bytes = read_text(path);
  const auto at = entry.at("chunk_offsets").at(volume).get<std::size_t>() + 5;
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  write_text(path, bytes);
  std::filesystem::last_write_time(path, time);
}

TEST(CacheOnRanks, DamageIsFoundOnceAndToldInShardOrderOnEveryRank) {
  const CacheCohort cohort(20);  // seven shards
  cohort.build();
  const Json index = read_json(cohort.cache() / "cache.json");
  let_rot(cohort.cache(), index, 5, 0);
  let_rot(cohort.cache(), index, 1, 2);
  let_rot(cohort.cache(), index, 1, 0);
  std::filesystem::remove(cohort.cache() / "shard-00003.h5");
  const std::vector<std::string> expected = data::verify_cache(cohort.cache(), [] {});
  ASSERT_EQ(expected.size(), 4U);
  for (const int num_ranks : {1, 2, 3, 5, 9}) {
    SCOPED_TRACE(num_ranks);
    std::atomic<int> num_looked_at = 0;
    run_on_threads(num_ranks, [&](ProcessGroup& group) {
      const VerifiedCache found =
          verify_cache_on_ranks(cohort.cache(), group, kRoundSeconds, [&] { ++num_looked_at; });
      EXPECT_EQ(found.damaged, expected);
      EXPECT_EQ(found.num_volumes, 17);
    });
    EXPECT_EQ(num_looked_at, 17) << "every volume on one rank";
  }
  const std::string message = damage_error(cohort.cache(), expected).what();
  EXPECT_NE(message.find("4 damaged places"), std::string::npos) << message;
  EXPECT_NE(message.find("Delete shard-00001.h5, shard-00005.h5 there"), std::string::npos)
      << message;
}

TEST(CacheOnRanks, WhatVerifySaysToDoMendsBitsThatRotted) {
  const CacheCohort cohort(8);
  cohort.build();
  const std::map<std::string, std::string> before = files_in(cohort.cache());
  let_rot(cohort.cache(), read_json(cohort.cache() / "cache.json"), 1, 1);
  EXPECT_EQ(cohort.build(), 0) << "a build does not read what nobody touched";
  run_on_threads(2, [&](ProcessGroup& group) {
    const VerifiedCache found = verify_cache_on_ranks(cohort.cache(), group, kRoundSeconds, [] {});
    ASSERT_EQ(found.damaged.size(), 1U);
    const std::string message = damage_error(cohort.cache(), found.damaged).what();
    EXPECT_NE(message.find("Delete shard-00001.h5 there"), std::string::npos) << message;
  });
  std::filesystem::remove(cohort.cache() / "shard-00001.h5");
  run_on_threads(2, [&](ProcessGroup& group) { build(cohort, group); });
  EXPECT_TRUE(files_in(cohort.cache())["shard-00001.h5"] == before.at("shard-00001.h5"));
  EXPECT_TRUE(data::verify_cache(cohort.cache(), [] {}).empty());
}

TEST(CacheOnRanks, ADamagedIndexIsToldOnceAndAMissingOneIs66) {
  const CacheCohort cohort(4);
  cohort.build();
  write_text(cohort.cache() / "cache.json", "{}");
  run_on_threads(3, [&](ProcessGroup& group) {
    const VerifiedCache found = verify_cache_on_ranks(cohort.cache(), group, kRoundSeconds, [] {});
    ASSERT_EQ(found.damaged.size(), 1U);
    EXPECT_TRUE(found.damaged[0].starts_with("cache.json: ")) << found.damaged[0];
  });
  std::filesystem::remove(cohort.cache() / "cache.json");
  run_on_threads(2, [&](ProcessGroup& group) {
    expect_error<AgreedError>(
        [&] {
          static_cast<void>(verify_cache_on_ranks(cohort.cache(), group, kRoundSeconds, [] {}));
        },
        ExitCode::kMissingInput, {"cache.json"});
  });
}

TEST(CacheOnRanks, ASlowDiskUnderOneRankIsWaitedForInVerifying) {
  const CacheCohort cohort(30);
  cohort.build();
  for (const int num_ranks : {2, 3})
    run_on_threads(
        num_ranks,
        [&](ProcessGroup& group) {
          const VerifiedCache found =
              verify_cache_on_ranks(cohort.cache(), group, kRoundSeconds, [&] {
                if (group.rank() == 0) std::this_thread::sleep_for(kSlowPiece);
              });
          EXPECT_EQ(found.num_volumes, 30);
          EXPECT_TRUE(found.damaged.empty());
        },
        kTimeoutSeconds);
}

TEST(CacheOnRanks, RoundsAreShortBesideTheTimeout) {
  for (const double timeout : {0.1, 10.0, 600.0, 1e6}) {
    EXPECT_LE(round_seconds(timeout), timeout / 10);
    EXPECT_GT(round_seconds(timeout), 0);
    EXPECT_LE(round_seconds(timeout), 30) << "news of an error must not take long";
  }
}

}  // namespace
}  // namespace triphase::launch
