// SPDX-License-Identifier: Apache-2.0
// What is found and what is refused, with and without GPUs, on any machine.
#include "dist/gpu_libraries.hpp"
#include "dist/order_keys.hpp"
#include "tests/dist/fake_nccl.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/tensor.h>

#include <limits>

namespace triphase::test {
namespace {

dist::NcclLibrary with_version(int version) {
  dist::NcclLibrary nccl;
  nccl.file = "libnccl.so.2";
  nccl.version = version;
  return nccl;
}

TEST(NcclLibrary, OfAnotherMajorOrOlderThanDeclaredIsRefusedWithBothVersions) {
  for (const auto& [version, text] :
       std::vector<std::pair<int, std::string>>{{21705, "2.17.5"}, {2708, "2.7.8"}, {30000, "3.0.0"}})
    expect_error<CommError>([&] { check_version(with_version(version)); },
                            ExitCode::kCommunication,
                            {"'libnccl.so.2' is NCCL " + text, "built for 2.18.0 and later 2.x"});
  for (const int version : {21800, 21805, 22809, 23203}) check_version(with_version(version));
}

TEST(NcclLibrary, WhatIsMissingIsNamedTogetherWithWhatToDo) {
  const FakeNccl fake;
  const auto refuses = [](const std::optional<dist::CudaRuntime>& cuda,
                          const std::optional<dist::NcclLibrary>& nccl, const std::string& word) {
    expect_error<CommError>([&] { static_cast<void>(dist::require_gpu_libraries(cuda, nccl)); },
                            ExitCode::kCommunication, {"'nccl'", word, "\"mpi\""});
  };
  refuses(std::nullopt, fake.nccl(), "libcudart.so");
  refuses(fake.cuda(), std::nullopt, "libnccl.so.2");
  {
    const FakeNccl without_gpu({.num_gpus = 0});
    refuses(without_gpu.cuda(), without_gpu.nccl(), "no CUDA-capable device is detected");
  }
  const FakeNccl old({.version = 21403});
  expect_error<CommError>(
      [&] { static_cast<void>(dist::require_gpu_libraries(old.cuda(), old.nccl())); },
      ExitCode::kCommunication, {"is NCCL 2.14.3"});
}

TEST(NcclLibrary, ADoctorIsToldWhatWasFoundAndWhatFollows) {
  const auto holds = [](const std::string& text, const std::string& word) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  };
  holds(dist::describe(std::optional<dist::NcclLibrary>()), "not found");
  holds(dist::describe(std::optional<dist::CudaRuntime>()), "not found");
  {
    const FakeNccl fake;
    holds(dist::describe(std::optional(fake.nccl())), "2.28.9, the fake's libnccl");
    holds(dist::describe(std::optional(fake.cuda())), "13.0, the fake's libcudart, GPUs: 8");
  }
  const FakeNccl without_gpu({.num_gpus = 0});
  holds(dist::describe(std::optional(without_gpu.cuda())), "no GPU: no CUDA-capable device");
}

TEST(NcclLibrary, AFileThatIsNotThereIsNothingAndAnotherLibraryIsAnError) {
  EXPECT_FALSE(dist::load_nccl_library({"/nowhere/libnccl.so.2"}).has_value());
  EXPECT_FALSE(dist::load_cuda_runtime({"/nowhere/libcudart.so.13"}).has_value());
  expect_error<CommError>([] { static_cast<void>(dist::load_nccl_library({"libm.so.6"})); },
                          ExitCode::kCommunication, {"libm.so.6", "ncclGetVersion"});
}

// With a LibTorch built for CUDA this opens the real ones, GPU or not.
TEST(NcclLibrary, WhatLibTorchCarriesHasEveryFunctionAndFits) {
  if (const auto nccl = dist::load_nccl_library()) {
    EXPECT_GE(nccl->version, dist::NcclLibrary::kDeclaredVersion);
    EXPECT_NE(nccl->file.find("libnccl"), std::string::npos);
    EXPECT_STREQ(nccl->get_error_string(0), "no error");
  }
  if (const auto cuda = dist::load_cuda_runtime()) {
    std::string problem;
    const int num_gpus = dist::count_gpus(*cuda, problem);
    EXPECT_EQ(num_gpus == 0, !problem.empty()) << problem;
    EXPECT_NE(dist::version_text(*cuda), "of unknown version");
  }
}

TEST(OrderKeys, AreOrderedAsTheNumbersAreAndPassNotANumberOn) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> special{0.0, -0.0, 1.0, -1.0, kInfinity, -kInfinity, nan, -nan, 1e-45};
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    std::vector<double> left;
    std::vector<double> right;
    for (const double a : special)
      for (const double b : special) {
        left.push_back(a);
        right.push_back(b);
      }
    const at::Tensor random_left = rank_values(0, {500}, dtype);
    const at::Tensor random_right = rank_values(1, {500}, dtype);
    for (const auto& [a, b] : {std::pair{at::tensor(left).to(dtype), at::tensor(right).to(dtype)},
                               std::pair{random_left, random_right}})
      for (const bool is_max : {true, false}) {
        const at::Tensor keys_a = dist::order_keys(a, is_max);
        const at::Tensor keys_b = dist::order_keys(b, is_max);
        const at::Tensor found = dist::from_order_keys(
            is_max ? at::maximum(keys_a, keys_b) : at::minimum(keys_a, keys_b), dtype);
        const at::Tensor expected = is_max ? at::maximum(a, b) : at::minimum(a, b);
        EXPECT_TRUE(found.allclose(expected, 0, 0, /*equal_nan=*/true))
            << at::toString(dtype) << ' ' << is_max;
        EXPECT_TRUE(same_bits(dist::from_order_keys(dist::order_keys(random_left, is_max), dtype),
                              random_left));
      }
  }
}

}  // namespace
}  // namespace triphase::test
