// SPDX-License-Identifier: Apache-2.0
// A study on several ranks, in one group or in several, is the study on one rank.
#include <algorithm>
#include <cmath>

#include "base/json.hpp"
#include "tests/trainer/shared_folder.hpp"
#include "tests/trainer/study_fixture.hpp"

namespace triphase::test {
namespace {

const std::string kCells =
    "[study.axes]\n\"adapt.method\" = [\"full\", \"peft\"]\n\"loss.temperature_init\" = [0.07, 0.5]\n"
    "[[study.when]]\nset = {\"precision.compute\" = \"float64\", \"adapt.image.rank\" = 2}\n";

/// study.json of the study of kCells (or others) in `folder`.
Json run_in(const std::filesystem::path& folder, const TinyCache& cache, dist::Runtime& runtime, int num_groups,
            const std::string& cells = kCells) {
  std::unique_ptr<StudyFolder> study;
  for (int rank = 0; rank < runtime.num_ranks(); ++rank) {  // one after the other writes the same files
    if (rank == runtime.rank()) study = std::make_unique<StudyFolder>(folder, Settings{}, cache);
    runtime.world().barrier();
  }
  trainer::StudyConfig config;
  for (int rank = 0; rank < runtime.num_ranks(); ++rank) {
    if (rank == runtime.rank()) config = study->load(cells, "groups = " + std::to_string(num_groups));
    runtime.world().barrier();
  }
  const trainer::StudyOutcome outcome = trainer::run_study(config, runtime, false);
  if (runtime.rank() == 0) {
    EXPECT_FALSE(outcome.table.empty());
    EXPECT_TRUE(std::filesystem::exists(outcome.report));
  }
  runtime.world().barrier();
  return read_json(study->results() / "study.json");
}

/// Numbers within 1e-6, everything else but folders as it is.
void expect_same_results(const Json& a, const Json& b) {
  const Json flat_a = a.flatten();
  const Json flat_b = b.flatten();
  ASSERT_EQ(flat_a.size(), flat_b.size());
  for (const auto& [key, value] : flat_a.items()) {
    ASSERT_TRUE(flat_b.contains(key)) << key;
    const Json& other = flat_b.at(key);
    if (key.ends_with("/run_dir")) continue;
    if (!value.is_number()) EXPECT_EQ(value, other) << key;
    else EXPECT_NEAR(value.get<double>(), other.get<double>(), 1e-6) << key;
  }
}

TEST(StudyOnRanks, GroupsAndOneGroupGiveTheTablesOfOneRank) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TinyCache& cache = shared_cache(runtime.world());
  const TemporaryFolder own;
  const Json alone = [&] {
    dist::Runtime self(runtime, /*color=*/runtime.rank());
    return run_in(own.path(), cache, self, 1);
  }();
  EXPECT_EQ(alone.at("cells").size(), 4U);
  EXPECT_TRUE(alone.at("cells")[0].at("findings").at("hcc").at("auc").is_number());
  for (const int num_groups : {1, runtime.num_ranks()}) {
    const SharedFolder shared(runtime.world());
    expect_same_results(run_in(shared.path(), cache, runtime, num_groups), alone);
  }
}

TEST(StudyOnRanks, ACellThatFailsInOneGroupStopsNoOther) {
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  const TinyCache& cache = shared_cache(runtime.world());
  for (const int num_groups : {1, runtime.num_ranks()}) {
    const SharedFolder shared(runtime.world());
    const Json json = run_in(shared.path(), cache, runtime, num_groups,
                             "[[study.cells]]\n\"run.seed\" = 1\n[[study.cells]]\n\"run.seed\" = 2\n"
                             "\"evaluate.prompts\" = \"none.toml\"\n[[study.cells]]\n\"run.seed\" = 3\n");
    std::vector<std::string> statuses;
    for (const Json& cell : json.at("cells")) statuses.push_back(cell.at("status").get<std::string>());
    EXPECT_EQ(statuses, (std::vector<std::string>{"done", "failed", "done"})) << num_groups;
    EXPECT_EQ(json.at("cells")[1].at("error").at("exit_code"), 66);
  }
}

}  // namespace
}  // namespace triphase::test
