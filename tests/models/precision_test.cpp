// SPDX-License-Identifier: Apache-2.0
#include "models/precision.hpp"

#include "tests/models/models_test_support.hpp"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::max_error;
using test::normal;

bool autocasts() { return at::autocast::is_autocast_enabled(at::kCPU); }

TEST(AutocastGuard, EverythingIsAsBeforeAtItsEnd) {
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  {
    const AutocastGuard outer(at::kCPU);
    EXPECT_TRUE(outer.enabled());
    EXPECT_EQ(outer.dtype(), at::kBFloat16);
    outer.off();
    EXPECT_FALSE(autocasts());
    {
      const AutocastGuard inner(at::kCPU);
      EXPECT_FALSE(inner.enabled());
      inner.set(true, at::kHalf, false);
      EXPECT_TRUE(autocasts());
      EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), at::kHalf);
      EXPECT_FALSE(at::autocast::is_autocast_cache_enabled());
    }
    EXPECT_FALSE(autocasts());
    EXPECT_TRUE(at::autocast::is_autocast_cache_enabled());
  }
  EXPECT_TRUE(autocasts());
  EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

TEST(Precision, NarrowFloatsAreWidenedAndOthersLeftAlone) {
  for (const at::ScalarType narrow : {at::kBFloat16, at::kHalf})
    EXPECT_EQ(widened(at::ones({2}, narrow)).scalar_type(), at::kFloat);
  for (const at::ScalarType wide : {at::kFloat, at::kDouble, at::kLong}) {
    const at::Tensor x = at::ones({2}, wide);
    EXPECT_TRUE(widened(x).is_same(x));
  }
}

TEST(Precision, AParameterFollowsItsInputUnlessAutocastDoes) {
  const at::Tensor parameter = at::ones({2});
  const at::Tensor x = at::ones({2}, at::kBFloat16);
  EXPECT_EQ(matching(parameter, x).scalar_type(), at::kBFloat16);
  EXPECT_TRUE(matching(parameter, at::ones({1})).is_same(parameter));
  EXPECT_FALSE(matching(at::Tensor(), x).defined());
  at::autocast::set_autocast_enabled(at::kCPU, true);
  EXPECT_TRUE(matching(parameter, x).is_same(parameter));
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

TEST(Precision, UnitRowsHaveNoEpsilon) {
  const at::Tensor rows = normal({5, 7}, 1, at::kDouble);
  for (const double scale : {1.0, 1e-12, 1e12}) {
    const at::Tensor unit = unit_rows(scale * rows);
    EXPECT_LT(max_error(unit.norm(2, 1), at::ones({5}, at::kDouble)), 1e-14) << scale;
    EXPECT_LT(max_error(unit, unit_rows(rows)), 1e-14) << scale;  // an epsilon would shorten them
  }
  EXPECT_TRUE(unit_rows(at::zeros({1, 3})).isnan().all().item<bool>());
  const at::Tensor narrow = normal({5, 7}, 1, at::kBFloat16);
  EXPECT_EQ(unit_rows(narrow).scalar_type(), at::kFloat);
  EXPECT_TRUE(equal_bits(unit_rows(narrow), unit_rows(narrow.to(at::kFloat))));
}

}  // namespace
}  // namespace triphase::models
