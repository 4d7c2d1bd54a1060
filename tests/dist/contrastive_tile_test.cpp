// SPDX-License-Identifier: Apache-2.0
// The tiles behind the contrastive loss: both kinds alike, no bit from the number of threads, and
// the digits of small losses.
#include "dist/contrastive_tile.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/dist/contrastive_case.hpp"
#include "tests/dist/rank_values.hpp"

namespace triphase::test {
namespace {

/// As many threads as said, until the end of the scope.
class ThreadScope {
 public:
  explicit ThreadScope(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~ThreadScope() { at::set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

struct TileResult {
  dist::SoftmaxSums sums;
  at::Tensor image_grad, text_grad;
  double product = 0;
  double sigmoid_loss = 0;
  at::Tensor sigmoid_image_grad, sigmoid_text_grad;
  dist::SigmoidGradient sigmoid;
};

/// All of a loss that is local, with the texts in two blocks.
TileResult run_tiles(dist::ContrastiveTiles& tiles, const ContrastiveCase& from) {
  const std::int64_t half = from.text.size(0) / 2;
  const std::int64_t rest = from.text.size(0) - half;
  TileResult result;
  result.sums = tiles.start();
  for (at::Tensor* grad : {&result.image_grad, &result.sigmoid_image_grad})
    *grad = at::zeros_like(from.image);
  for (at::Tensor* grad : {&result.text_grad, &result.sigmoid_text_grad})
    *grad = at::zeros_like(from.text);
  const dist::ColumnBlock blocks[] = {{from.text.narrow(0, half, rest), half},
                                      {from.text.narrow(0, 0, half), 0}};
  for (const auto& block : blocks) tiles.add(block, result.sums);
  for (const auto& block : blocks) {
    const auto of_block = [&](const at::Tensor& grad) {
      return grad.narrow(0, block.first_column, block.text.size(0));
    };
    result.product +=
        tiles.add_gradient(block, result.sums, 0.5, result.image_grad, of_block(result.text_grad));
    result.sigmoid_loss += tiles.sum_of_sigmoid_losses(block);
    const dist::SigmoidGradient part = tiles.add_sigmoid_gradient(
        block, 0.5, result.sigmoid_image_grad, of_block(result.sigmoid_text_grad));
    result.sigmoid.scale += part.scale;
    result.sigmoid.bias += part.bias;
  }
  return result;
}

ContrastiveCase to(const ContrastiveCase& from, at::ScalarType dtype) {
  return {from.image.to(dtype), from.text.to(dtype), from.log_scale.to(dtype)};
}

TEST(ContrastiveTiles, TheFusedPassesAgreeWithLibTorchsOperations) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const double tolerance = dtype == at::kFloat ? 2e-6 : 1e-13;
    for (const std::int64_t pairs : {1, 17, 150})
      for (const std::int64_t num_keys : {1, 6, 1000})
        for (const std::int64_t tile : {7, 64, 1024}) {
          const ContrastiveCase one = to(make_case(pairs, 9, 20, 31), dtype);
          const at::Tensor key = at::arange(pairs, at::kLong).remainder(num_keys);
          const at::Tensor group = key.remainder(2);
          const dist::PairKeys keys = tile == 64 ? dist::PairKeys{key, key, group, group}
                                                 : dist::PairKeys{key, key, {}, {}};
          const auto run = [&](auto make) {
            return run_tiles(*make(one.image, dist::LogitMap{20.0, -3.0}, keys, tile), one);
          };
          const TileResult a = run(dist::make_fused_tiles);
          const TileResult b = run(dist::make_torch_tiles);
          SCOPED_TRACE(
              str(at::toString(dtype), ", ", pairs, " pairs, ", num_keys, " keys, tile ", tile));
          EXPECT_LT(difference(a.sums.row_max, b.sums.row_max), 20 * tolerance);
          EXPECT_LT(difference(a.sums.column_max, b.sums.column_max), 20 * tolerance);
          EXPECT_LT(difference(a.sums.row_sum / b.sums.row_sum, at::ones_like(b.sums.row_sum)),
                    20 * tolerance);
          EXPECT_LT(
              difference(a.sums.column_sum / b.sums.column_sum, at::ones_like(b.sums.column_sum)),
              20 * tolerance);
          EXPECT_LT(difference(a.sums.positive_mean, b.sums.positive_mean), 20 * tolerance);
          EXPECT_LT(difference(a.image_grad, b.image_grad), 20 * tolerance);
          EXPECT_LT(difference(a.text_grad, b.text_grad), 20 * tolerance);
          const double many = static_cast<double>(pairs);
          EXPECT_NEAR(a.product, b.product, 20 * tolerance * many);
          EXPECT_NEAR(a.sigmoid_loss, b.sigmoid_loss, 20 * tolerance * (1 + b.sigmoid_loss));
          EXPECT_LT(difference(a.sigmoid_image_grad, b.sigmoid_image_grad), 20 * tolerance * many);
          EXPECT_LT(difference(a.sigmoid_text_grad, b.sigmoid_text_grad), 20 * tolerance * many);
          EXPECT_NEAR(a.sigmoid.scale, b.sigmoid.scale, 20 * tolerance * many * many);
          EXPECT_NEAR(a.sigmoid.bias, b.sigmoid.bias, 20 * tolerance * many * many);
        }
  }
}

TEST(ContrastiveTiles, TheNumberOfThreadsChangesNoBit) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const ContrastiveCase one = to(make_case(700, 33, 40, 32), dtype);
    const at::Tensor key = at::arange(700, at::kLong).remainder(300);
    const auto run = [&](int threads) {
      const ThreadScope scope(threads);
      return run_tiles(*dist::make_fused_tiles(one.image, {40.0, 0.0}, {key, key, {}, {}}, 512),
                       one);
    };
    const TileResult alone = run(1);
    for (const int threads : {2, 3, 5}) {
      const TileResult together = run(threads);
      EXPECT_TRUE(same_bits(alone.sums.row_sum, together.sums.row_sum)) << threads;
      EXPECT_TRUE(same_bits(alone.sums.column_sum, together.sums.column_sum)) << threads;
      EXPECT_TRUE(same_bits(alone.image_grad, together.image_grad)) << threads;
      EXPECT_TRUE(same_bits(alone.text_grad, together.text_grad)) << threads;
      EXPECT_EQ(alone.product, together.product) << threads;
      EXPECT_EQ(alone.sigmoid_loss, together.sigmoid_loss) << threads;
      EXPECT_EQ(alone.sigmoid.scale, together.sigmoid.scale) << threads;
      EXPECT_TRUE(same_bits(alone.sigmoid_text_grad, together.sigmoid_text_grad)) << threads;
    }
  }
}

/// The loss of float32 inputs, in float64.
double exact_loss(const ContrastiveCase& from) {
  const at::Tensor logits = at::matmul(from.image.to(at::kDouble), from.text.to(at::kDouble).t()) *
                            std::exp(from.log_scale.item<double>());
  // logsumexp - S_ii as log1p of the other terms: logsumexp itself keeps 1e-14 of 100, no more.
  const at::Tensor others = (logits - logits.diagonal().unsqueeze(1)).exp_().fill_diagonal_(0);
  const at::Tensor by_text = (logits - logits.diagonal()).exp_().fill_diagonal_(0);
  return 0.5 * (others.sum(1).log1p().mean() + by_text.sum(0).log1p().mean()).item<double>();
}

TEST(ContrastiveTiles, ALossOfATenThousandthKeepsFiveDigitsInFloat32) {
  // Texts lie near their images, and the scale sets the loss.
  for (const auto& [pairs, log_scale] :
       {std::pair<std::int64_t, double>{512, 2.9467}, {4096, 3.1018}}) {
    const ContrastiveCase narrow =
        to(make_case(pairs, 64, std::exp(log_scale), 33, 0.05), at::kFloat);
    const double expected = exact_loss(narrow);
    EXPECT_NEAR(expected, 1e-4, 0.3e-4) << pairs;
    const auto group = dist::make_self_group();
    const double actual =
        dist::global_contrastive_loss(narrow.image, narrow.text, narrow.log_scale, *group)
            .item<double>();
    // The logits' own rounding, 1e-6 each, is averaged over the pairs: 4e-7 is seen.
    EXPECT_NEAR(actual / expected, 1, 1e-5) << pairs;
  }
}

}  // namespace
}  // namespace triphase::test
