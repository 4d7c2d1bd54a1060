// SPDX-License-Identifier: Apache-2.0
// Tests that fail on purpose, to test the multi-rank main itself; started by faults_test.cpp.
#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <stdexcept>
#include <thread>

namespace {

bool is_rank_1() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank == 1;
}

TEST(Harness, PassesEverywhere) { SUCCEED(); }
TEST(Harness, FailsOnRankOne) { EXPECT_FALSE(is_rank_1()) << "as wanted"; }
TEST(Harness, ThrowsOnRankOne) {
  if (is_rank_1()) throw std::runtime_error("thrown as wanted");
}
TEST(Harness, HangsOnRankOne) {
  if (is_rank_1()) std::this_thread::sleep_for(std::chrono::minutes(10));
}
TEST(Harness, HangsInACollective) {
  if (!is_rank_1()) MPI_Barrier(MPI_COMM_WORLD);
}

}  // namespace
