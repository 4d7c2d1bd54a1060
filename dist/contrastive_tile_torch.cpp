// SPDX-License-Identifier: Apache-2.0
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "dist/contrastive_kernel.hpp"
#include "dist/contrastive_tile.hpp"

namespace triphase::dist {
namespace {

/// The formulas as LibTorch's operations, for devices without passes of our own.
class TorchTiles final : public ContrastiveTiles {
 public:
  TorchTiles(const at::Tensor& image, const LogitMap& map, const PairKeys& keys, std::int64_t tile)
      : image_(image.detach()),
        scaled_(image_ * map.scale),
        map_(map),
        tile_(tile),
        row_key_(keys.row.to(image.device())),
        column_key_(keys.column.to(image.device())),
        target_(at::zeros({image.size(0)}, image.options().dtype(at::kDouble))) {
    if (keys.row_group.defined()) {
      row_group_ = keys.row_group.to(image.device());
      column_group_ = keys.column_group.to(image.device());
    }
    for_each_tile(0, column_key_.size(0), [&](const Tile& t) {
      rows(target_, t).add_(at::sum(positives(t), {1}, false, at::kDouble));
    });
    target_.reciprocal_();
  }

  [[nodiscard]] SoftmaxSums start() const override {
    const auto filled = [&](std::int64_t count, double value, at::ScalarType dtype) {
      return at::full({count}, value, image_.options().dtype(dtype));
    };
    const std::int64_t b = image_.size(0), n = column_key_.size(0);
    const at::ScalarType dtype = image_.scalar_type();
    return {filled(b, kLowestReference, dtype), filled(b, 0, at::kDouble),
            filled(n, kLowestReference, dtype), filled(n, 0, at::kDouble),
            filled(b, 0, at::kDouble)};
  }

  void add(const ColumnBlock& block, SoftmaxSums& sums) override {
    for_each_tile(block.first_column, block.text.size(0), [&](const Tile& t) {
      const at::Tensor logits = logits_of(block, t);
      absorb(logits, 1, rows(sums.row_max, t), rows(sums.row_sum, t));
      absorb(logits, 0, columns(sums.column_max, t), columns(sums.column_sum, t));
      rows(sums.positive_mean, t).add_(at::sum(logits * positives(t), {1}) * rows(target_, t));
    });
  }

  double add_gradient(const ColumnBlock& block, const SoftmaxSums& sums, double weight,
                      const at::Tensor& image_grad, const at::Tensor& text_grad) override {
    at::Tensor product = at::zeros({}, image_.options().dtype(at::kDouble));
    for_each_tile(block.first_column, block.text.size(0), [&](const Tile& t) {
      const at::Tensor logits = logits_of(block, t);
      const auto softmax = [&](const at::Tensor& max, const at::Tensor& sum) {
        return at::exp(logits - max) / sum;
      };
      at::Tensor g =
          softmax(rows(sums.row_max, t).unsqueeze(1), rows(sums.row_sum, t).unsqueeze(1));
      g.add_(softmax(columns(sums.column_max, t), columns(sums.column_sum, t)));
      g.sub_(positives(t) * (2 * rows(target_, t).unsqueeze(1))).mul_(weight);
      product.add_(at::sum(g * logits));
      add_products(block, t, g, image_grad, text_grad);
    });
    return product.item<double>();
  }

  double sum_of_sigmoid_losses(const ColumnBlock& block) override {
    at::Tensor sum = at::zeros({}, image_.options().dtype(at::kDouble));
    for_each_tile(block.first_column, block.text.size(0), [&](const Tile& t) {
      const at::Tensor x =
          (logits_of(block, t) + map_.bias) * (1 - 2 * positives(t).to(at::kDouble));
      sum.add_(at::sum(at::clamp_min(x, 0) + at::log1p(at::exp(-at::abs(x)))));
    });
    return sum.item<double>();
  }

  SigmoidGradient add_sigmoid_gradient(const ColumnBlock& block, double weight,
                                       const at::Tensor& image_grad,
                                       const at::Tensor& text_grad) override {
    at::Tensor scale = at::zeros({}, image_.options().dtype(at::kDouble));
    at::Tensor bias = at::zeros_like(scale);
    for_each_tile(block.first_column, block.text.size(0), [&](const Tile& t) {
      const at::Tensor logits = logits_of(block, t);
      const at::Tensor g =
          (at::sigmoid(logits + map_.bias) - positives(t).to(at::kDouble)) * weight;
      scale.add_(at::sum(g * logits));
      bias.add_(at::sum(g));
      add_products(block, t, g, image_grad, text_grad);
    });
    return {scale.item<double>(), bias.item<double>()};
  }

 private:
  struct Tile {
    std::int64_t row, num_rows, column, num_columns;  ///< columns of the global batch
  };
  [[nodiscard]] static at::Tensor rows(const at::Tensor& of, const Tile& t) {
    return of.narrow(0, t.row, t.num_rows);
  }
  [[nodiscard]] static at::Tensor columns(const at::Tensor& of, const Tile& t) {
    return of.narrow(0, t.column, t.num_columns);
  }
  [[nodiscard]] at::Tensor positives(const Tile& t) const {
    return at::eq(rows(row_key_, t).unsqueeze(1), columns(column_key_, t));
  }
  /// float64; what is not compared is kExcludedLogit.
  [[nodiscard]] at::Tensor logits_of(const ColumnBlock& block, const Tile& t) const {
    at::Tensor logits =
        at::mm(rows(scaled_, t),
               block.text.narrow(0, t.column - block.first_column, t.num_columns).t())
            .to(at::kDouble);
    if (!row_group_.defined()) return logits;
    const at::Tensor is_other = at::ne(rows(row_group_, t).unsqueeze(1), columns(column_group_, t));
    return logits.masked_fill_(is_other, kExcludedLogit);
  }
  void add_products(const ColumnBlock& block, const Tile& t, const at::Tensor& gradient,
                    const at::Tensor& image_grad, const at::Tensor& text_grad) const {
    const at::Tensor g = gradient.to(image_.scalar_type());
    const std::int64_t column = t.column - block.first_column;
    rows(image_grad, t).addmm_(g, block.text.narrow(0, column, t.num_columns), 1, map_.scale);
    text_grad.narrow(0, column, t.num_columns).addmm_(g.t(), rows(scaled_, t));
  }
  static void absorb(const at::Tensor& logits, std::int64_t dim, at::Tensor max, at::Tensor sum) {
    const at::Tensor new_max = at::maximum(max.to(at::kDouble), at::amax(logits, {dim}));
    sum.mul_(at::exp(max - new_max)).add_(at::sum(at::exp(logits - new_max.unsqueeze(dim)), {dim}));
    max.copy_(new_max);
  }
  template <class Body>
  void for_each_tile(std::int64_t first, std::int64_t count, Body&& body) const {
    for (std::int64_t row = 0; row < image_.size(0); row += tile_)
      for (std::int64_t column = 0; column < count; column += tile_)
        body(Tile{row, std::min(tile_, image_.size(0) - row), first + column,
                  std::min(tile_, count - column)});
  }

  at::Tensor image_, scaled_;
  LogitMap map_;
  std::int64_t tile_;
  at::Tensor row_key_, column_key_, row_group_, column_group_, target_;
};

}  // namespace

std::unique_ptr<ContrastiveTiles> make_torch_tiles(const at::Tensor& image, const LogitMap& map,
                                                   const PairKeys& keys, std::int64_t tile) {
  return std::make_unique<TorchTiles>(image, map, keys, tile);
}

}  // namespace triphase::dist
