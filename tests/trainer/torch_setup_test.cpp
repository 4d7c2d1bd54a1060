// SPDX-License-Identifier: Apache-2.0
// On a machine, or in a process, that sees no GPU; tests/gpu has the rest.
#include "trainer/torch_setup.hpp"

#include "tests/support/test_support.hpp"

#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace triphase::trainer {
namespace {

using triphase::test::expect_error;

TEST(TorchSetup, WithoutAGpuAutoAndCpuAreTheCpuAndCudaIsRefused) {
  ASSERT_FALSE(at::hasCUDA()) << "these tests are started with CUDA_VISIBLE_DEVICES empty";
  dist::Runtime runtime({.backend = "self"});
  for (const char* device : {"auto", "cpu"}) {
    const TorchSetup setup = set_up_torch({.device = device}, runtime);
    EXPECT_EQ(setup.device, at::Device(at::kCPU)) << device;
    EXPECT_EQ(setup.why_cpu, "") << device;
    EXPECT_GE(setup.threads, 1);
    EXPECT_EQ(describe_device(setup.device), "cpu");
  }
  expect_error<Error>([&] { static_cast<void>(set_up_torch({.device = "cuda"}, runtime)); }, ExitCode::kUsage,
                      {"precision.device is 'cuda'", "no GPU", "doctor"});
}

TEST(TorchSetup, DeterministicIsAskedForAndTakenBack) {
  dist::Runtime runtime({.backend = "self"});
  for (const bool deterministic : {true, false}) {
    static_cast<void>(set_up_torch({.deterministic = deterministic}, runtime));
    EXPECT_EQ(at::globalContext().deterministicAlgorithms(), deterministic);
  }
}

TEST(TorchSetup, WarnsOfIdleGpusOnceAndOnlyWhereThereAreSome) {
  const test::TemporaryFolder folder;
  for (const int rank : {0, 1})
    for (const std::string why : {"", "2 ranks would share a GPU"}) {
      const auto file = folder.path() / str("log", rank, why.size());
      {
        Logger log({.rank = rank, .num_ranks = 2, .quiet = true, .file = file});
        warn_of_idle_gpus({.threads = 1, .device = at::kCPU, .why_cpu = why}, log);
      }
      const bool is_told = test::read_text(file).find("2 ranks would share a GPU") != std::string::npos;
      EXPECT_EQ(is_told, rank == 0 && !why.empty()) << rank << " " << why;
    }
}

}  // namespace
}  // namespace triphase::trainer
