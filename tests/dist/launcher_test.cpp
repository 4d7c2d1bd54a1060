// SPDX-License-Identifier: Apache-2.0
#include "dist/launcher.hpp"

#include <gtest/gtest.h>

#include <map>

namespace triphase::test {
namespace {

dist::Launcher find(const std::map<std::string, std::string>& variables) {
  return dist::find_launcher([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

TEST(Launcher, WithoutOneThereIsOneRank) {
  EXPECT_EQ(find({}).num_ranks, 1);
  EXPECT_EQ(find({}).name, "");
}

TEST(Launcher, MpirunSaysHowMany) {
  EXPECT_EQ(find({{"OMPI_COMM_WORLD_SIZE", "3"}, {"PMIX_RANK", "0"}}).num_ranks, 3);
  EXPECT_EQ(find({{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}}).num_ranks, 1);
  EXPECT_EQ(find({{"PMI_SIZE", "2"}}).num_ranks, 2);
}

TEST(Launcher, SrunSaysHowMany) {
  EXPECT_EQ(find({{"SLURM_STEP_NUM_TASKS", "8"}, {"PMIX_RANK", "5"}}).num_ranks, 8);
  EXPECT_EQ(find({{"SLURM_STEP_NUM_TASKS", "8"}}).num_ranks, 8);
  EXPECT_EQ(find({{"SLURM_STEP_NUM_TASKS", "1"}, {"PMIX_RANK", "0"}}).num_ranks, 1);
}

TEST(Launcher, ABatchScriptIsNoLauncher) {
  EXPECT_EQ(find({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "64"}, {"SLURM_JOB_ID", "7"}}).num_ranks,
            1);
}

TEST(Launcher, PmixWithoutANumberMeansSeveral) {
  EXPECT_EQ(find({{"PMIX_RANK", "0"}}).num_ranks, 2);
}

TEST(Launcher, NonsenseIsNoNumber) {
  EXPECT_EQ(find({{"OMPI_COMM_WORLD_SIZE", "many"}}).num_ranks, 1);
  EXPECT_EQ(find({{"OMPI_COMM_WORLD_SIZE", "-2"}}).num_ranks, 1);
  EXPECT_EQ(find({{"SLURM_STEP_NUM_TASKS", "4x"}}).num_ranks, 1);
}

}  // namespace
}  // namespace triphase::test
