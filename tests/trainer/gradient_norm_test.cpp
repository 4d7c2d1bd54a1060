// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/gradient_norm.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

namespace triphase::trainer {
namespace {

TEST(GlobalNorm, EqualsTheNormOfAllElementsTogether) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (const std::int64_t size : {0, 1, 7, 8, 9, 65535, 65536, 65537, 200001}) {
      const at::Tensor a = at::randn({size}, dtype);
      const at::Tensor b = at::randn({3, 5}, dtype);
      const double expected = at::cat({a, b.flatten()}).to(at::kDouble).norm().item<double>();
      EXPECT_NEAR(global_norm({a, b}), expected, 1e-12 * expected) << size;
    }
  }
  EXPECT_EQ(global_norm({}), 0);
}

TEST(GlobalNorm, HasTheSameBitsForAnyNumberOfThreads) {
  const at::Tensor values = at::randn({1'000'003});
  at::set_num_threads(1);
  const double one = global_norm({values});
  for (const int threads : {2, 3, 4}) {
    at::set_num_threads(threads);
    EXPECT_EQ(global_norm({values}), one) << threads;
  }
  at::set_num_threads(1);
}

TEST(GlobalNorm, TellsWhatIsNotFinite) {
  at::Tensor values = at::ones({100});
  values[50] = INFINITY;
  EXPECT_FALSE(std::isfinite(global_norm({values})));
  values[50] = NAN;
  EXPECT_TRUE(std::isnan(global_norm({values})));
  EXPECT_TRUE(
      std::isfinite(global_norm({at::full({4}, 3e38F)})));  // float32 squares would overflow
}

TEST(GlobalNorm, TakesAnyDenseLayout) {
  const at::Tensor values = at::randn({2, 3, 4, 5, 6});
  EXPECT_NEAR(global_norm({values.contiguous(at::MemoryFormat::ChannelsLast3d)}),
              global_norm({values}), 1e-12);
  EXPECT_ANY_THROW(static_cast<void>(global_norm({values.slice(4, 0, 6, 2)})));
}

}  // namespace
}  // namespace triphase::trainer
