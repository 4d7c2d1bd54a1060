// SPDX-License-Identifier: Apache-2.0
// Federated rounds: adapt.federated_steps.
#include "trainer/loop/federation.hpp"

#include <gtest/gtest.h>

#include <set>

#include "base/json.hpp"
#include "dist/runtime.hpp"
#include "tests/trainer/run_fixture.hpp"

namespace triphase::test {
namespace {

constexpr std::int64_t kNorth = 4;  // training samples of the tiny cache's sites
constexpr std::int64_t kSouth = 14;

Settings with(Settings settings, const Settings& more) {
  for (const auto& [key, value] : more) settings[key] = value;
  return settings;
}

const Settings kFederated{{"adapt.federated_steps", "2"},   {"batch.global_pairs", "2"},
                          {"precision.compute", "\"float64\""}, {"schedule.kind", "\"constant\""},
                          {"schedule.warmup_steps", "0"},   {"schedule.max_steps", "3"}};
const Settings kPeft{{"adapt.method", "\"peft\""},
                     {"adapt.image.rank", "2"},
                     {"adapt.text.rank", "2"},
                     {"adapt.text.dropout", "0.2"}};

TEST(GroupSites, EverySiteHasOneGroupAndGroupsAreOfOneSize) {
  for (std::size_t num_sites = 1; num_sites <= 7; ++num_sites)
    for (int num_ranks = 1; num_ranks <= 12; ++num_ranks) {
      std::map<int, std::set<std::size_t>> sites;
      std::map<int, int> sizes;
      int num_groups = 0;
      for (int rank = 0; rank < num_ranks; ++rank) {
        const trainer::SiteGroups layout = trainer::group_sites(num_sites, rank, num_ranks);
        num_groups = layout.num_groups;
        ++sizes[layout.group_of_rank];
        const std::set<std::size_t> own(layout.sites.begin(), layout.sites.end());
        EXPECT_FALSE(own.empty());
        EXPECT_TRUE(sites.try_emplace(layout.group_of_rank, own).first->second == own);
      }
      std::multiset<std::size_t> all;
      for (const auto& [group, own] : sites) all.insert(own.begin(), own.end());
      EXPECT_EQ(std::set<std::size_t>(all.begin(), all.end()).size(), num_sites);
      EXPECT_EQ(all.size(), num_sites);
      EXPECT_EQ(std::ssize(sizes), num_groups);
      for (const auto& [group, size] : sizes) EXPECT_EQ(size, num_ranks / num_groups);
      EXPECT_LE(num_groups, static_cast<int>(num_sites));
    }
}

/// What a round is to be, from runs that know nothing of it: each site trains by itself for as many steps,
/// and the weights are averaged by hand.
TEST(Federation, ARoundIsTheMeanOfTheSitesOwnRunsByTheirPairs) {
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  for (const Settings& method : {Settings{}, kPeft}) {
    const TemporaryFolder folder;
    const Settings settings = with(kFederated, method);
    const RunRecord round = run_once(
        tiny_run(folder / "together", with(settings, {{"schedule.max_steps", "1"}})), *self);
    std::map<std::string, at::Tensor> mean;
    double loss = 0;
    for (const auto& [site, pairs] : {std::pair{"north", kNorth}, std::pair{"south", kSouth}}) {
      const Settings alone{{"adapt.federated_steps", "0"},
                           {"schedule.max_steps", "2"},
                           {"data.sites", str("[\"", site, "\"]")}};
      const RunRecord run = run_once(tiny_run(folder / site, with(settings, alone)), *self);
      const double share = static_cast<double>(pairs) / (kNorth + kSouth);
      loss += share * (run.losses[0] + run.losses[1]) / 2;
      for (const auto& [name, weight] : run.weights) {
        const at::Tensor part = weight.is_floating_point() ? weight * share : weight;
        const auto [sum, is_new] = mean.try_emplace(name, part);
        if (!is_new && weight.is_floating_point()) sum->second = sum->second + part;
      }
    }
    expect_near(round.weights, mean, 1e-13);
    ASSERT_EQ(round.losses.size(), 1U);
    EXPECT_NEAR(round.losses[0], loss, 1e-13);
  }
}

TEST(Federation, AnyNumberOfRanksGivesTheSameRounds) {
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const TemporaryFolder folder;
  const Settings settings = with(kFederated, kPeft);
  const RunRecord alone = run_once(tiny_run(folder / "alone", settings), *self);
  EXPECT_EQ(alone.losses.size(), 3U);
  // Two groups of one, two of two (which share each site's batches).
  for (const int num_ranks : {2, 4}) {
    const std::string name = "ranks" + std::to_string(num_ranks);
    on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
      const RunRecord together = run_once(tiny_run(folder / name, settings), group);
      expect_near(together.weights, alone.weights, 1e-10);
      ASSERT_EQ(together.losses.size(), alone.losses.size());
      for (std::size_t i = 0; i < alone.losses.size(); ++i) {
        EXPECT_NEAR(together.losses[i], alone.losses[i], 1e-10);
        EXPECT_NEAR(together.grad_norms[i], alone.grad_norms[i], 1e-9);
      }
    });
  }
}

TEST(Federation, ARunThatStopsGoesOnToTheSameBits) {
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const TemporaryFolder folder;
  const Settings settings = with(with(kFederated, kPeft), {{"schedule.max_steps", "5"}});
  const RunRecord whole = run_once(tiny_run(folder / "whole", settings), *self);
  const trainer::RunConfig config = tiny_run(folder / "parts", settings);
  trainer::TrainLoopOptions first;
  std::int64_t seen = 0;
  first.on_step = [&](std::int64_t step, const trainer::StepReport&) { seen = step; };
  first.stop_requested = [&] { return seen >= 2; };
  EXPECT_TRUE(run_once(config, *self, first).result.stopped_on_request);
  const RunRecord rest = run_once(config, *self, {.resume = "auto"});
  EXPECT_EQ(rest.losses.size(), 3U);
  expect_same(rest.weights, whole.weights);
}

TEST(Federation, SaysWhatItMovedAndWhoTookPart) {
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), with(kFederated, kPeft));
  static_cast<void>(run_once(config, *self));
  const std::filesystem::path run = config.run_dir();
  const Json environment = Json::parse(read_text(run / "environment.json"));
  const Json federated = environment.at("federated");
  EXPECT_EQ(federated.at("local_steps"), 2);
  EXPECT_EQ(federated.at("sites").size(), 2U);
  EXPECT_EQ(federated.at("sites")[0].at("site"), "north");
  EXPECT_EQ(federated.at("sites")[0].at("pairs"), kNorth);
  EXPECT_NEAR(federated.at("sites")[1].at("share").get<double>(), kSouth / 18.0, 1e-15);
  const std::int64_t trainable = environment.at("model").at("num_trainable");
  std::istringstream lines(read_text(run / "metrics.jsonl"));
  std::string line;
  std::getline(lines, line);
  const Json record = Json::parse(line);
  // Weights and two moments of each site, there and back, 8 bytes each.
  EXPECT_EQ(record.at("bytes_exchanged"), 2 * 2 * 3 * 8 * trainable);
  EXPECT_EQ(record.at("pairs_seen"), 2 * 2 * 2);
}

TEST(Federation, ASiteThatCannotFillABatchIsNamed) {
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const TemporaryFolder folder;
  expect_error<Error>(
      [&] {
        static_cast<void>(run_once(
            tiny_run(folder.path(), with(kFederated, {{"batch.global_pairs", "5"}})), *self));
      },
      ExitCode::kUsage, {"north", "federated"});
}

// A rank that fails within its site's updates is heard by the others, which wait for the average.
TEST(Federation, AnErrorAtOneSiteIsEveryRanks) {
  const TinyCache broken;  // one of its own: a shard is damaged
  const TemporaryFolder folder;
  const Settings settings = kFederated;
  for (const auto& entry : std::filesystem::directory_iterator(broken.cache()))
    if (entry.path().filename() == "shard-00000.h5") {
      std::string bytes = read_text(entry.path());
      for (std::size_t i = bytes.size() / 2; i < bytes.size() / 2 + 4096; ++i) bytes[i] ^= 1;
      write_text(entry.path(), bytes);
    }
  on_thread_ranks(2, [&](dist::ProcessGroup& group) {
    const trainer::RunConfig config =
        tiny_run(folder.path(), with(settings, {{"schedule.max_steps", "30"}}), broken);
    try {
      static_cast<void>(run_once(config, group));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadData) << error.what();
    }
  });
}

}  // namespace
}  // namespace triphase::test
