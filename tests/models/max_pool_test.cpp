// SPDX-License-Identifier: Apache-2.0
#include "models/max_pool.hpp"

#include "tests/models/models_test_support.hpp"

#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::max_error;
using test::normal;

TEST(MaxPool, TheOrderedFormHasLibTorchsValuesAndGradient) {
  for (const std::vector<std::int64_t>& sizes :
       {std::vector<std::int64_t>{2, 3, 8, 9, 10}, {1, 2, 1, 1, 1}, {1, 1, 2, 2, 2}, {2, 1, 3, 2, 1}, {1, 2, 7, 5, 16}})
    for (const bool is_channels_last : {false, true})
      for (const bool has_ties : {false, true}) {
        at::Tensor given = normal(sizes, 5).to(at::kDouble);
        if (has_ties) given = given.relu();  // as the stem gives it: many zeros
        if (is_channels_last) given = given.contiguous(at::MemoryFormat::ChannelsLast3d);
        const auto both = [&](MaxPoolForm form) {
          const at::Tensor x = given.detach().clone().requires_grad_();
          const at::Tensor y = max_pool(x, form);
          y.backward(normal(y.sizes(), 6).to(at::kDouble));
          return std::pair(y.detach(), x.grad());
        };
        const auto [y, gradient] = both(MaxPoolForm::kAuto);
        const auto [ordered, ordered_gradient] = both(MaxPoolForm::kOrdered);
        EXPECT_TRUE(equal_bits(ordered.contiguous(), y.contiguous()));
        EXPECT_LT(max_error(ordered_gradient, gradient), 1e-15)
            << at::IntArrayRef(sizes) << (has_ties ? " ties" : "") << (is_channels_last ? " channels last" : "");
      }
}

}  // namespace
}  // namespace triphase::models
