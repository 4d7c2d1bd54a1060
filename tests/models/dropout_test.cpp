// SPDX-License-Identifier: Apache-2.0
#include "models/dropout.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

using test::equal_bits;
using test::max_error;
using test::normal;

/// What dropout leaves of ones, by these keys, after some dropouts of other tensors.
at::Tensor kept_of(const std::vector<std::uint64_t>& keys, at::IntArrayRef sample_shape, double p,
                   int num_before = 0) {
  std::vector<std::int64_t> shape{std::ssize(keys)};
  shape.insert(shape.end(), sample_shape.begin(), sample_shape.end());
  const DropoutScope scope(keys);
  for (int i = 0; i < num_before; ++i) (void)dropout(at::ones({std::ssize(keys), 3}), p);
  return dropout(at::ones(shape), p);
}

TEST(Dropout, DropsTheRightShareAndKeepsTheMean) {
  for (const double p : {0.05, 0.1, 0.5, 0.9}) {
    const at::Tensor kept = kept_of({4, 5, 6}, {100, 401}, p);
    const at::Tensor share = kept.ne(0).to(at::kDouble);
    const double sigma = std::sqrt(p * (1 - p) / static_cast<double>(kept.numel()));
    EXPECT_NEAR(share.mean().item<double>(), 1 - p, 5 * sigma) << p;
    EXPECT_LT(max_error(kept, share / (1 - p)), 1e-6 / (1 - p)) << p;
    // Neighbours in a row, which share a hash, in a column, and in the batch are dropped independently.
    const at::Tensor centred = share - (1 - p);
    for (const std::int64_t dim : {0, 1, 2})
      for (const std::int64_t distance : {1, 2}) {
        const std::int64_t count = kept.size(dim) - distance;
        const at::Tensor product = centred.narrow(dim, 0, count) * centred.narrow(dim, distance, count);
        EXPECT_LT(std::abs(product.mean().item<double>()),
                  5 * p * (1 - p) / std::sqrt(static_cast<double>(product.numel())))
            << p << " dim " << dim << " distance " << distance;
      }
  }
}

TEST(Dropout, DrawsFromKeyAndNumberOfTheDropoutAlone) {
  const at::Tensor all = kept_of({7, 8, 9}, {40}, 0.5);
  EXPECT_TRUE(equal_bits(kept_of({9, 7}, {40}, 0.5), at::stack({all[2], all[0]})));
  EXPECT_TRUE(equal_bits(kept_of({7}, {70}, 0.5)[0].slice(0, 0, 40), all[0]));  // a longer text
  EXPECT_TRUE(equal_bits(kept_of({7, 8}, {70001}, 0.5)[1], kept_of({8}, {70001}, 0.5)[0]));  // over many threads
  EXPECT_FALSE(equal_bits(all[0], all[1]));
  EXPECT_FALSE(equal_bits(kept_of({7, 8, 9}, {40}, 0.5, 1), all));
}

TEST(Dropout, IsTheSameOnAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  std::vector<at::Tensor> kept;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    kept.push_back(kept_of({1, 2}, {3, 33335}, 0.3));
  }
  at::set_num_threads(before);
  EXPECT_TRUE(equal_bits(kept[0], kept[1]));
  EXPECT_TRUE(equal_bits(kept[0], kept[2]));
}

TEST(Dropout, TheFormForGpusDropsTheSame) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16})
    for (const double p : {0.05, 0.5, 0.97})
      for (const bool has_keys : {true, false})
        for (const bool is_channels_last : {false, true}) {
          at::Tensor x = normal({3, 5, 4, 7, 3}, 3).to(dtype);
          if (is_channels_last) x = x.contiguous(at::MemoryFormat::ChannelsLast3d);
          const at::Tensor scores = normal({3 * 4, 2, 8, 24}, 4).to(dtype);
          const auto drop = [&](DropoutForm form) {
            at::manual_seed(8);
            std::optional<DropoutScope> scope;
            if (has_keys) scope.emplace(std::vector<std::uint64_t>{~std::uint64_t{0}, 2, 1ULL << 63});
            const at::Tensor input = x.detach().clone().requires_grad_();
            const at::Tensor first = dropout(input, p, form);
            first.backward(at::ones_like(first));
            return std::vector<at::Tensor>{first.detach(), input.grad(), dropout(x, p, form),
                                           attention_dropout(scores, p, {4, 8, 8}, form),
                                           attention_dropout(scores.narrow(0, 0, 3), p, {1, 0, 0}, form),
                                           attention_dropout(scores, p, {4, 8, 7}, form)};
          };
          const auto expected = drop(DropoutForm::kAuto);
          const auto found = drop(DropoutForm::kOperators);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            EXPECT_TRUE(equal_bits(found[i], expected[i])) << dtype << " " << p << " " << i;
            EXPECT_EQ(found[i].strides(), expected[i].strides());
          }
        }
}

TEST(Dropout, TheGradientIsDroppedWhereTheValueIs) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16})
    for (const bool channels_last : {false, true}) {
      at::Tensor x = normal({2, 3, 4, 5, 7}, 3).abs().add(1).to(dtype);
      if (channels_last) x = x.contiguous(at::MemoryFormat::ChannelsLast3d);
      x.requires_grad_();
      const DropoutScope scope({1, 2});
      const at::Tensor y = dropout(x, 0.5);
      EXPECT_EQ(y.strides(), x.strides());
      y.backward(at::ones_like(x, at::MemoryFormat::Contiguous).transpose(3, 4).contiguous().transpose(3, 4));
      EXPECT_TRUE(equal_bits(x.grad().contiguous(), y.detach().ne(0).to(dtype).mul(2).contiguous()));
    }
}

TEST(Dropout, BranchesAreCountedApart) {
  const std::vector<std::uint64_t> keys{1, 2};
  std::vector<at::Tensor> texts;
  for (const bool with_image : {false, true}) {
    const DropoutScope scope(keys);
    begin_dropout_branch(DropoutBranch::kImage);
    at::Tensor image;
    if (with_image) image = dropout(at::ones({2, 50}), 0.5);
    begin_dropout_branch(DropoutBranch::kText);
    texts.push_back(dropout(at::ones({2, 50}), 0.5));
    if (with_image) {
      EXPECT_FALSE(equal_bits(image, texts[1]));
    }
  }
  EXPECT_TRUE(equal_bits(texts[0], texts[1]));
}

TEST(Dropout, WithoutKeysFollowsTheGenerator) {
  const at::Tensor x = at::ones({2, 50});
  at::manual_seed(3);
  const at::Tensor first = dropout(x, 0.5);
  const at::Tensor second = dropout(x, 0.5);
  at::manual_seed(3);
  EXPECT_TRUE(equal_bits(dropout(x, 0.5), first));
  EXPECT_FALSE(equal_bits(first, second));
  EXPECT_FALSE(equal_bits(first[0], first[1]));
}

TEST(Dropout, RefusesKeysOfAnotherBatch) {
  const DropoutScope scope({1, 2});
  EXPECT_THROW((void)dropout(at::ones({3, 4}), 0.5), InternalError);
  EXPECT_TRUE(equal_bits(dropout(at::ones({3, 4}), 0), at::ones({3, 4})));
}

TEST(Dropout, EndsWithItsScope) {
  {
    const DropoutScope outer({1});
    { const DropoutScope inner({1, 2}); }
    EXPECT_EQ(dropout_state().sample_keys->values().size(), 1U);
  }
  EXPECT_EQ(dropout_state().sample_keys, nullptr);
}

}  // namespace
}  // namespace triphase::models
