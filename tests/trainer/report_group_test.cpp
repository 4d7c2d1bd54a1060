// SPDX-License-Identifier: Apache-2.0
// Volumes that share their report are no negatives of each other.
#include <gtest/gtest.h>

#include <set>

#include "tests/trainer/run_fixture.hpp"
#include "trainer/build_model.hpp"
#include "trainer/loop/train_data.hpp"

namespace triphase::test {
namespace {

const TinyCache& grouped_cache() {
  static const TinyCache made(2, /*has_companions=*/true, /*has_groups=*/true);
  return made;
}

std::vector<double> losses(const TinyCache& cache, const std::string& positives) {
  const TemporaryFolder folder;
  const trainer::RunConfig config =
      tiny_run(folder.path(), {{"loss.positives", "\"" + positives + "\""}}, cache);
  return run_once(config, *dist::make_self_group()).losses;
}

/// A group of equal texts means what equal texts mean under loss.positives = "text".
TEST(ReportGroup, IsAPairOfItsOwnUnderTheUsualPositives) {
  const std::vector<double> grouped = losses(grouped_cache(), "pair");
  EXPECT_EQ(grouped, losses(companions_cache(), "text"));
  EXPECT_NE(grouped, losses(companions_cache(), "pair"));
}

TEST(ReportGroup, GivesItsSamplesOneIdAndTheOthersTheirOwn) {
  const TemporaryFolder folder;
  const trainer::RunConfig config = tiny_run(folder.path(), {}, grouped_cache());
  const models::TwoTowerOptions model = trainer::make_bare_model(config)->options();
  const std::vector<std::int64_t> ids =
      trainer::open_train_data(config, model, {}).positive_ids;
  ASSERT_GT(ids.size(), 10U);
  EXPECT_EQ(ids[2], ids[8]);
  std::set<std::int64_t> others(ids.begin(), ids.end());
  EXPECT_EQ(others.size(), ids.size() - 1);
  const trainer::RunConfig plain = tiny_run(folder.path(), {}, companions_cache());
  EXPECT_TRUE(trainer::open_train_data(plain, model, {}).positive_ids.empty());
}

}  // namespace
}  // namespace triphase::test
