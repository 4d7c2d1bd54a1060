// SPDX-License-Identifier: Apache-2.0
// What a study file says: which cells there are, what each is given, and what is refused.
#include <algorithm>
#include <set>

#include "base/random.hpp"
#include "tests/trainer/study_fixture.hpp"
#include "trainer/study/cell_estimate.hpp"

namespace triphase::test {
namespace {

using trainer::StudyCell;
using trainer::StudyConfig;

struct TemporaryStudy {
  TemporaryFolder folder;
  StudyFolder study{folder.path()};
};

TEST(StudyCells, AreTheGridInOrderAndThenTheList) {
  const TemporaryStudy given;
  const std::vector<StudyCell> cells = trainer::study_cells(given.study.load(
      "[study.axes]\n\"adapt.method\" = [\"full\", \"peft\"]\n\"loss.temperature_init\" = [0.07, 1.0]\n"
      "\"run.seed\" = [3, 1]\n"
      "[[study.cells]]\n\"data.sites\" = [\"north\"]\n\"evaluate.sites\" = [\"*\"]\n"
      "[[study.when]]\nmatch = {\"adapt.method\" = \"peft\"}\nset = {\"optimizer.lr\" = 0.5, \"adapt.image.rank\" = 3}\n"
      "[[study.when]]\nset = {\"data.workers\" = 2}\n"));
  ASSERT_EQ(cells.size(), 9U);
  std::size_t i = 0;
  std::set<std::string> names;
  for (const char* method : {"full", "peft"})
    for (const double temperature : {0.07, 1.0})
      for (const std::int64_t seed : {3, 1}) {
        const trainer::RunConfig& config = cells[i].config;
        EXPECT_EQ(config.adapt.method, method);
        EXPECT_EQ(config.loss.temperature_init, temperature);
        EXPECT_EQ(config.run.seed, seed);
        EXPECT_EQ(config.optimizer.lr, config.adapt.method == "peft" ? 0.5 : 1e-3);
        EXPECT_EQ(config.adapt.image.rank, config.adapt.method == "peft" ? 3 : 8);
        EXPECT_EQ(config.batch.global_pairs, 6);  // the base's
        EXPECT_EQ(config.data.workers, 2);
        EXPECT_EQ(config.run_dir(), (given.study.results() / cells[i].name).string());
        names.insert(cells[i++].name);
      }
  EXPECT_EQ(cells[0].name, "full_t0.07_s3");
  EXPECT_EQ(cells[8].config.data.sites, std::vector<std::string>{"north"});
  EXPECT_EQ(cells[8].config.evaluate.sites, std::vector<std::string>{"*"});
  EXPECT_EQ(cells[8].config.run.seed, 7);  // the base's
  names.insert(cells[8].name);
  EXPECT_EQ(names.size(), 9U);
  EXPECT_FALSE(std::filesystem::exists(given.study.results()));
}

TEST(StudyCells, KeepTheirNamesWhenOthersComeOrGo) {
  const TemporaryStudy given;
  const auto names = [&](const std::string& seeds) {
    std::set<std::string> result;
    for (const StudyCell& cell : trainer::study_cells(given.study.load(
             "[study.axes]\n\"data.sites\" = [[\"north\"], [\"north\", \"south\"], []]\n\"run.seed\" = " + seeds + "\n")))
      result.insert(cell.name);
    return result;
  };
  const std::set<std::string> few = names("[1]");
  const std::set<std::string> more = names("[2, 1]");
  EXPECT_EQ(more.size(), 6U);
  EXPECT_TRUE(std::includes(more.begin(), more.end(), few.begin(), few.end()));
  EXPECT_TRUE(few.contains("sites-north+south_s1"));
}

TEST(StudyCells, LaterSettingsWin) {
  const TemporaryStudy given;
  const std::string tables =
      "[study.axes]\n\"run.seed\" = [5, 6]\n"
      "[[study.when]]\nset = {\"optimizer.lr\" = 0.5, \"optimizer.weight_decay\" = 0.5}\n"
      "[[study.when]]\nmatch = {\"run.seed\" = 6}\nset = {\"optimizer.weight_decay\" = 0.25}\n";
  const std::map<std::string, std::string> environment{{"TRIPHASE__schedule__max_steps", "3"},
                                                       {"TRIPHASE__optimizer__lr", "0.125"},
                                                       {"TRIPHASE__run__seed", "9"}};
  const auto cells = trainer::study_cells(given.study.load(tables, "", environment, {"data.workers=2"}));
  ASSERT_EQ(cells.size(), 2U);
  EXPECT_EQ(cells[0].config.run.seed, 5);            // the cell's own, whatever the environment says
  EXPECT_EQ(cells[0].config.schedule.max_steps, 3);  // the environment over the base
  EXPECT_EQ(cells[0].config.optimizer.lr, 0.5);      // a rule over the environment
  EXPECT_EQ(cells[0].config.optimizer.weight_decay, 0.5);
  EXPECT_EQ(cells[1].config.optimizer.weight_decay, 0.25);  // the later rule
  EXPECT_EQ(cells[1].config.data.workers, 2);
  EXPECT_EQ(trainer::study_cells(given.study.load(tables, "", {}, {"optimizer.lr=0.0625"}))[0].config.optimizer.lr,
            0.0625);  // --set over rules
  EXPECT_EQ(trainer::study_cells(given.study.load(tables, "", {}, {"study.axes.run.seed=[1,2,3]"})).size(), 3U);
}

TEST(StudyConfig, RefusesWhatCannotBeWithItsPlace) {
  const TemporaryStudy given;
  const auto refuse = [&](const std::string& tables, std::initializer_list<std::string> words,
                          const std::vector<std::string>& sets = {}) {
    expect_error<ConfigError>([&] { static_cast<void>(trainer::study_cells(given.study.load(tables, "", {}, sets))); },
                              ExitCode::kUsage, words);
  };
  const std::string seeds = "[study.axes]\n\"run.seed\" = [1, 2]\n";
  refuse("", {"study.axes", "study.cells"});
  refuse("[study.axes]\n\"run.seed\" = []\n", {"study.toml:7", "run.seed", "no values"});
  refuse("[study.axes]\n\"run.seed\" = 1\n", {"study.toml:7", "list"});
  refuse("[study.axes]\n\"run.seed\" = [1, 2, 1]\n", {"study.toml:7", "twice"});
  refuse("[study.axes]\n\"loss.temperature_init\" = [1, 1.0]\n", {"twice"});
  refuse("[study.axes]\n\"run.name\" = [\"a\"]\n", {"run.name", "study.name"});
  refuse("[study.axes]\n\"loss.temprature_init\" = [0.1]\n", {"study.toml:7", "loss.temprature_init", "temperature_init"});
  refuse("[study.axes]\n\"loss.temperature_init\" = [-1]\n", {"study.toml:7", "loss.temperature_init"});
  refuse("[[study.cells]]\n\"optimiser.lr\" = 1\n", {"study.toml:7", "optimiser"});
  refuse(seeds + "[[study.cells]]\n", {"sets no key"});
  refuse(seeds + "[[study.cells]]\n\"run.seed\" = 2\n", {"same run"});
  refuse(seeds + "[[study.when]]\nmatch = {\"run.sed\" = 1}\nset = {\"data.workers\" = 2}\n", {"run.sed", "run.seed"});
  refuse(seeds + "[[study.when]]\nset = {\"run.seed\" = 2}\n", {"is an axis"});
  refuse(seeds + "[[study.when]]\nmatch = {\"run.seed\" = 1}\n", {"sets nothing"});
  refuse(seeds, {"--set run.seed", "study.axes.run.seed"}, {"run.seed=1"});
  refuse(seeds, {"--set run.name", "study.name"}, {"run.name=x"});
  refuse(seeds, {"stduy"}, {"stduy.groups=2"});
  refuse("[study]\ngroups = 2\n", {"study.toml"});
}

TEST(StudyGroups, DivideTheRanks) {
  const TemporaryStudy given;
  const std::string seeds = "[study.axes]\n\"run.seed\" = [1, 2]\n";
  EXPECT_EQ(trainer::ranks_per_group(given.study.load(seeds), 6), 6);
  EXPECT_EQ(trainer::ranks_per_group(given.study.load(seeds, "groups = 3"), 6), 2);
  expect_error<ConfigError>([&] { static_cast<void>(trainer::ranks_per_group(given.study.load(seeds, "groups = 4"), 6)); },
                            ExitCode::kUsage, {"study.groups is 4", "6 ranks"});
  // A batch of six pairs goes to three ranks, not to four.
  const auto cells = trainer::study_cells(given.study.load(seeds));
  EXPECT_NO_THROW(trainer::check_cells_fit(cells, 3));
  expect_error<ConfigError>([&] { trainer::check_cells_fit(cells, 4); }, ExitCode::kUsage,
                            {"batch.global_pairs", cells[0].name});
}

TEST(AssignCells, GivesEachCellToOneGroupAndNoneMuchMoreThanAnother) {
  KeyedRandom random{11};
  for (int trial = 0; trial < 200; ++trial) {
    const int num_groups = 1 + static_cast<int>(random.below(5));
    std::vector<double> costs;
    for (std::uint64_t i = 0; i < 1 + random.below(30); ++i) costs.push_back(random.chance(0.2) ? 0 : random.uniform());
    const std::vector<int> groups = trainer::assign_cells(costs, num_groups);
    std::vector<double> loads(static_cast<std::size_t>(num_groups), 0.0);
    for (std::size_t i = 0; i < costs.size(); ++i) {
      ASSERT_EQ(groups[i] == -1, costs[i] == 0);
      if (groups[i] >= 0) loads.at(static_cast<std::size_t>(groups[i])) += costs[i];
    }
    const auto [least, most] = std::minmax_element(loads.begin(), loads.end());
    EXPECT_LE(*most - *least, *std::max_element(costs.begin(), costs.end()) + 1e-12);
  }
}

TEST(DescribeStudy, ListsEachCellWithItsCost) {
  const TemporaryStudy given;
  const StudyConfig study = given.study.load("[study.axes]\n\"adapt.method\" = [\"full\", \"peft\"]\n"
                                             "[[study.when]]\nmatch = {\"adapt.method\" = \"none\"}\nset = {\"data.workers\" = 2}\n");
  const std::vector<StudyCell> cells = trainer::study_cells(study);
  const std::string text = trainer::describe_study(study, cells, 4);
  for (const char* part : {"full", "peft", "missing", "2: 0 done, 0 resumable, 2 missing", "4 in 1 group", "applies to no cell"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  const auto estimates = trainer::estimate_cells(cells, true);
  EXPECT_EQ(estimates[0].steps, 2);
  EXPECT_EQ(estimates[0].pairs, 12);
  EXPECT_GT(*estimates[0].num_trainable, *estimates[1].num_trainable);
  EXPECT_FALSE(estimates[0].seconds.has_value());
}

}  // namespace
}  // namespace triphase::test
