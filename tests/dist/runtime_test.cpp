// SPDX-License-Identifier: Apache-2.0
#include "dist/runtime.hpp"

#include "dist/host_group.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/ones.h>
#include <mpi.h>

namespace triphase::test {
namespace {

dist::RuntimeOptions with_backend(const std::string& backend) {
  dist::RuntimeOptions options;
  options.backend = backend;
  return options;
}

int world_size() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

TEST(Runtime, SeesTheRanksOfTheLauncher) {
  dist::Runtime runtime;  // auto
  EXPECT_EQ(runtime.num_ranks(), world_size());
  EXPECT_EQ(runtime.world().backend(), world_size() > 1 ? "mpi" : "self");
  EXPECT_EQ(runtime.local_num_ranks(), world_size());  // the tests run on one host
  EXPECT_EQ(runtime.local_rank(), runtime.rank());
  EXPECT_FALSE(runtime.host().empty());
}

TEST(Runtime, LeavesMpiAsItFoundIt) {
  { const dist::Runtime runtime(with_backend("mpi")); }
  int is_finalized = 1;
  MPI_Finalized(&is_finalized);
  EXPECT_EQ(is_finalized, 0);
}

TEST(Runtime, NamesTheLibrary) {
  const std::string version = dist::Runtime::library_version();
  EXPECT_FALSE(version.empty());
  EXPECT_EQ(version.find('\n'), std::string::npos);
}

TEST(Runtime, RefusesABackendThatItDoesNotHave) {
  expect_error<ConfigError>([] { const dist::Runtime runtime(with_backend("nccl")); },
                            ExitCode::kUsage, {"'nccl'", "'mpi'"});
  expect_error<ConfigError>([] { const dist::Runtime runtime(with_backend("smoke")); },
                            ExitCode::kUsage, {"'smoke'", "'auto'"});
}

TEST(Runtime, RefusesSelfWhenSeveralTasksWereStarted) {
  if (world_size() == 1) {
    dist::Runtime runtime(with_backend("self"));
    EXPECT_EQ(runtime.world().backend(), "self");
    return;
  }
  expect_error<ConfigError>([] { const dist::Runtime runtime(with_backend("self")); },
                            ExitCode::kUsage, {"mpirun started " + std::to_string(world_size())});
}

TEST(Runtime, TheTimeoutCanBeChangedLater) {
  dist::Runtime runtime(with_backend("mpi"));
  runtime.set_timeout(45);
  runtime.world().barrier();
  EXPECT_FALSE(dist::is_broken(runtime.world()));
}

TEST(Runtime, SeveralLivesAndPartsDoNotDisturbEachOther) {
  for (int life = 0; life < 3; ++life) {
    dist::Runtime runtime(with_backend("mpi"));
    const auto part = runtime.world().split(0, -runtime.rank());
    const at::Tensor sum = part->all_reduce(at::ones({4}), dist::ReduceOp::kSum)->wait();
    EXPECT_EQ(sum[0].item<float>(), static_cast<float>(world_size()));
  }
}

}  // namespace
}  // namespace triphase::test
