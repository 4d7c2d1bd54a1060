// SPDX-License-Identifier: Apache-2.0
#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "dist/contrastive_kernel.hpp"
#include "dist/contrastive_tile.hpp"

namespace triphase::dist {
namespace {

/// The formulas as LibTorch's operations, for devices without passes of our own.
class TorchTiles final : public ContrastiveTiles {
 public:
  TorchTiles(const at::Tensor& image, double scale, const PairKeys& keys, std::int64_t tile)
      : image_(image.detach()),
        scaled_(image_ * scale),
        scale_(scale),
        tile_(tile),
        row_key_(keys.row.to(image.device())),
        column_key_(keys.column.to(image.device())),
        target_(at::zeros({image.size(0)}, image.options().dtype(at::kDouble))) {
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
      const at::Tensor logits = logits_of(block, t).to(at::kDouble);
      absorb(logits, 1, rows(sums.row_max, t), rows(sums.row_sum, t));
      absorb(logits, 0, columns(sums.column_max, t), columns(sums.column_sum, t));
      rows(sums.positive_mean, t).add_(at::sum(logits * positives(t), {1}) * rows(target_, t));
    });
  }

  double add_gradient(const ColumnBlock& block, const SoftmaxSums& sums, double weight,
                      const at::Tensor& image_grad, const at::Tensor& text_grad) override {
    at::Tensor product = at::zeros({}, image_.options().dtype(at::kDouble));
    for_each_tile(block.first_column, block.text.size(0), [&](const Tile& t) {
      const at::Tensor logits = logits_of(block, t).to(at::kDouble);
      const auto softmax = [&](const at::Tensor& max, const at::Tensor& sum) {
        return at::exp(logits - max) / sum;
      };
      at::Tensor g =
          softmax(rows(sums.row_max, t).unsqueeze(1), rows(sums.row_sum, t).unsqueeze(1));
      g.add_(softmax(columns(sums.column_max, t), columns(sums.column_sum, t)));
      g.sub_(positives(t) * (2 * rows(target_, t).unsqueeze(1))).mul_(weight);
      product.add_(at::sum(g * logits));
      g = g.to(image_.scalar_type());
      const std::int64_t column = t.column - block.first_column;
      rows(image_grad, t).addmm_(g, block.text.narrow(0, column, t.num_columns), 1, scale_);
      text_grad.narrow(0, column, t.num_columns).addmm_(g.t(), rows(scaled_, t));
    });
    return product.item<double>();
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
  [[nodiscard]] at::Tensor logits_of(const ColumnBlock& block, const Tile& t) const {
    return at::mm(rows(scaled_, t),
                  block.text.narrow(0, t.column - block.first_column, t.num_columns).t());
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
  double scale_;
  std::int64_t tile_;
  at::Tensor row_key_, column_key_, target_;
};

}  // namespace

std::unique_ptr<ContrastiveTiles> make_torch_tiles(const at::Tensor& image, double scale,
                                                   const PairKeys& keys, std::int64_t tile) {
  return std::make_unique<TorchTiles>(image, scale, keys, tile);
}

}  // namespace triphase::dist
