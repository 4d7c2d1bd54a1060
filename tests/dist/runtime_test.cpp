// SPDX-License-Identifier: Apache-2.0
#include "dist/runtime.hpp"

#include "dist/cuda_runtime.hpp"
#include "dist/host_group.hpp"
#include "dist/mpi_try.hpp"
#include "dist/process_group_mpi.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <mpi.h>

#include <array>
#include <cstdlib>

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
  expect_error<ConfigError>([] { const dist::Runtime runtime(with_backend("smoke")); },
                            ExitCode::kUsage, {"'smoke'", "'auto'"});
}

// One rank sends nothing, and is told all the same before a job with more is started.
TEST(Runtime, WithoutAGpuNcclIsRefusedOnEveryRankAndAllElseGoesOn) {
  setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1);
  const auto cuda = dist::load_cuda_runtime();
  dist::Runtime runtime(with_backend("mpi"));
  for (int i = 0; i < 2; ++i)
    expect_error<dist::AgreedError>([&] { runtime.use_nccl(); }, ExitCode::kCommunication,
                                    {"'nccl'", cuda ? "sees no GPU" : "libcudart.so", "\"mpi\""});
  EXPECT_EQ(runtime.world().backend(), "mpi");
  EXPECT_FALSE(dist::is_broken(runtime.world()));
  runtime.world().barrier();
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
  EXPECT_EQ(runtime.timeout_seconds(), dist::RuntimeOptions{}.timeout_seconds);
  runtime.set_timeout(45);
  EXPECT_EQ(runtime.timeout_seconds(), 45);
  runtime.world().barrier();
  EXPECT_FALSE(dist::is_broken(runtime.world()));
}

TEST(MpiTry, AFailedCallIsNamedInMpisOwnWords) {
  const dist::Runtime runtime(with_backend("mpi"));  // errors return from here on
  int value = 0;
  expect_error<CommError>(
      [&] { MPI_TRY(MPI_Send(&value, 1, MPI_INT, world_size() + 5, 0, MPI_COMM_WORLD)); },
      ExitCode::kCommunication, {"MPI_Send(&value", "rank"});
  EXPECT_NO_THROW(MPI_TRY(MPI_Comm_rank(MPI_COMM_WORLD, &value)));
  EXPECT_NE(dist::mpi_error_text(MPI_ERR_COUNT).find("count"), std::string::npos);
}

TEST(MpiGroup, ADuplicateDoesNotMeetTheTrafficOfItsOriginal) {
  const dist::Runtime runtime(with_backend("mpi"));
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const auto group = dist::make_mpi_group(MPI_COMM_WORLD, std::make_shared<dist::MpiWatch>());
  EXPECT_EQ(group->rank(), rank);
  EXPECT_EQ(group->num_ranks(), world_size());
  // A message that waits in the world is not what the group receives.
  const int to = (rank + 1) % world_size();
  const int from = (rank + world_size() - 1) % world_size();
  std::array<MPI_Request, 2> sent{};
  const float wrong = -1;
  for (const int i : {0, 1})
    MPI_Isend(&wrong, 1, MPI_FLOAT, to, 7000 + i, MPI_COMM_WORLD,
              &sent[static_cast<std::size_t>(i)]);
  const at::Tensor mine = at::full({1}, rank, at::kFloat);
  EXPECT_EQ(group->send_receive(mine, to, from)->wait()[0].item<float>(), static_cast<float>(from));
  for (const int tag : {7000, 7001}) {
    float received = 0;
    MPI_Recv(&received, 1, MPI_FLOAT, from, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    EXPECT_EQ(received, -1);
  }
  MPI_Waitall(2, sent.data(), MPI_STATUSES_IGNORE);
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
