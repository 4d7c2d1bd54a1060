// SPDX-License-Identifier: Apache-2.0
#include "models/convolution.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "models/precision.hpp"
#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

struct Case {
  std::int64_t in, out;
  Size3 kernel, stride, padding;
  bool bias;
};

/// Output, and the gradients of x, weight and bias under random weights of the output.
std::vector<at::Tensor> run(bool ours, const Case& c, at::MemoryFormat format, std::uint64_t seed) {
  at::manual_seed(seed);
  const auto random = [](at::IntArrayRef shape) { return at::randn(shape, at::kDouble); };
  const at::Tensor x = random({2, c.in, 5, 4, 3}).contiguous(format).requires_grad_();
  const at::Tensor weight = random({c.out, c.in, c.kernel[0], c.kernel[1], c.kernel[2]})
                                .contiguous(format)
                                .requires_grad_();
  const at::Tensor bias = c.bias ? random({c.out}).requires_grad_() : at::Tensor();
  std::optional<at::Tensor> given;
  if (c.bias) given = bias;
  const at::Tensor y = ours ? convolve(x, weight, bias, c.stride, c.padding)
                            : at::conv3d(x, weight, given, c.stride, c.padding);
  std::vector<at::Tensor> inputs{x, weight};
  if (c.bias) inputs.push_back(bias);
  std::vector<at::Tensor> found{y.detach()};
  for (const at::Tensor& gradient : torch::autograd::grad({(y * random(y.sizes())).sum()}, inputs))
    found.push_back(gradient);
  return found;
}

TEST(Convolve, EqualsConv3dForEveryKernelStrideAndLayout) {
  std::uint64_t seed = 0;
  for (const at::MemoryFormat format :
       {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast3d})
    for (const bool bias : {false, true})
      for (const auto& [kernel, padding] : {std::pair<Size3, Size3>{{1, 1, 1}, {0, 0, 0}},
                                            {{1, 1, 1}, {1, 0, 2}},
                                            {{3, 3, 3}, {1, 1, 1}},
                                            {{3, 1, 1}, {0, 0, 0}}})
        for (const Size3& stride : {Size3{1, 1, 1}, Size3{2, 2, 2}, Size3{1, 2, 3}})
          for (const std::int64_t in : {1, 6}) {
            const Case c{in, 4, kernel, stride, padding, bias};
            const auto found = run(true, c, format, ++seed);
            const auto expected = run(false, c, format, seed);
            ASSERT_EQ(found.size(), expected.size());
            for (std::size_t i = 0; i < found.size(); ++i) {
              ASSERT_EQ(found[i].sizes(), expected[i].sizes());
              EXPECT_LT((found[i] - expected[i]).abs().max().item<double>(), 1e-12) << i;
            }
          }
}

TEST(Convolve, KeepsChannelsTogether) {
  const at::Tensor x = at::randn({2, 6, 4, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast3d);
  for (const Size3& stride : {Size3{1, 1, 1}, Size3{2, 2, 2}})
    EXPECT_TRUE(convolve(x, at::randn({8, 6, 1, 1, 1}), {}, stride, {})
                    .is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

/// Fills and frees memory of many sizes, so that what is not written shows.
void leave_nan_in_free_memory() {
  std::vector<at::Tensor> held;
  for (std::int64_t size = 64; size <= 1 << 18; size *= 4)
    for (int i = 0; i < 4; ++i)
      held.push_back(at::full({size}, std::numeric_limits<float>::quiet_NaN()));
}

TEST(Convolve, WritesEveryGradientOfSmallVolumesInBfloat16) {
  at::manual_seed(3);
  for (const auto& size : {Size3{1, 1, 1}, {2, 1, 1}, {2, 2, 2}, {2, 4, 4}, {4, 1, 4}, {4, 4, 1}})
    for (const std::int64_t step : {1, 2})
      for (const bool is_cast : {true, false}) {
        const at::ScalarType kind = is_cast ? at::kFloat : at::kBFloat16;
        const auto random = [&](at::IntArrayRef shape) {
          return at::randn(shape).to(at::kBFloat16).to(kind).requires_grad_();
        };
        const at::Tensor x = random({6, 16, size[0], size[1], size[2]});
        const at::Tensor weight = random({16, 16, 3, 3, 3});
        leave_nan_in_free_memory();
        const AutocastGuard around(at::kCPU);
        around.set(is_cast, at::kBFloat16, true);
        const at::Tensor y = convolve(x, weight, {}, {step, step, step}, {1, 1, 1});
        EXPECT_EQ(y.scalar_type(), at::kBFloat16);
        around.off();
        const at::Tensor seed = at::randn(y.sizes()).to(at::kBFloat16);
        const auto found = torch::autograd::grad({y}, {x, weight}, {seed});
        const at::Tensor wide_x = x.detach().to(at::kDouble).requires_grad_();
        const at::Tensor wide_weight = weight.detach().to(at::kDouble).requires_grad_();
        const at::Tensor wide_y =
            at::conv3d(wide_x, wide_weight, {}, Size3{step, step, step}, Size3{1, 1, 1});
        const auto expected =
            torch::autograd::grad({wide_y}, {wide_x, wide_weight}, {seed.to(at::kDouble)});
        for (std::size_t i = 0; i < 2; ++i) {
          const at::Tensor error = (found[i].to(at::kDouble) - expected[i]).abs().max();
          // bfloat16 keeps 8 bits; not below, for NaN to fail
          EXPECT_TRUE(error.item<double>() <= 0.01 * expected[i].abs().max().item<double>())
              << size[0] << size[1] << size[2] << " step " << step << " gradient " << i;
        }
      }
}

}  // namespace
}  // namespace triphase::models
