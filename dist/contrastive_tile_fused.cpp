// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <cmath>
#include <iterator>

#include "dist/contrastive_slabs.hpp"

// See Note [Fused tiles].

namespace triphase::dist {
namespace {

template <class T>
class FusedTiles final : public ContrastiveTiles {
 public:
  FusedTiles(const at::Tensor& image, const LogitMap& map, const PairKeys& keys, std::int64_t tile)
      : options_(image.options()),
        bias_(map.bias),
        num_rows_(image.size(0)),
        num_columns_(keys.column.numel()),
        all_(image, map.scale, keys, tile),
        kernel_(contrastive_kernel<T>()),
        slabs_(static_cast<std::size_t>(all_.num_slabs())) {
    for (Slab& slab : slabs_) {
      slab.column_max = at::empty({all_.width()}, image.options());
      slab.part = at::empty({all_.width()}, image.options());
      slab.column_sum = at::empty({all_.width()}, at::kDouble);
    }
  }

  [[nodiscard]] SoftmaxSums start() const override {
    const auto lowest = [&](std::int64_t count) {
      return at::full({count}, kLowestReference, options_);
    };
    const auto zeros = [](std::int64_t count) { return at::zeros({count}, at::kDouble); };
    return {lowest(num_rows_), zeros(num_rows_), lowest(num_columns_), zeros(num_columns_),
            zeros(num_rows_)};
  }

  void add(const ColumnBlock& block, SoftmaxSums& sums) override {
    all_.for_each_tile(block, [&](const Tile& tile) {
      on_torch_threads(all_.num_slabs(tile),
                       [&](std::int64_t slab) { add_rows(block, tile, slab, sums); });
      on_torch_threads(num_pieces(tile.num_columns, kSlabColumns),
                       [&](std::int64_t piece) { join_columns(block, tile, piece, sums); });
    });
  }

  double add_gradient(const ColumnBlock& block, const SoftmaxSums& sums, double weight,
                      const at::Tensor& image_grad, const at::Tensor& text_grad) override {
    const Weights weights = weights_of(block, sums, weight);
    return add_products(block, image_grad, text_grad,
                        [&](const Tile& tile, std::int64_t slab) {
                          form_gradient(block, tile, slab, sums, weights);
                        })
        .scale;
  }

  double sum_of_sigmoid_losses(const ColumnBlock& block) override {
    double sum = 0;
    all_.for_each_tile(block, [&](const Tile& tile) {
      on_torch_threads(all_.num_slabs(tile), [&](std::int64_t slab) {
        all_.form_logits(block, tile, slab, kernel_);
        std::array<T, kSlabRows> row_sum;
        kernel_.softplus_sums(all_.logits(tile, slab), static_cast<T>(bias_), row_sum.data());
        double& part = at_slab(slab).totals.scale;
        part = sum_of(row_sum, all_.rows_of(tile, slab).count);
        for (const Positive& p : all_.positives(slab)) {
          const double x = p.logit + bias_;
          part += std::max(-x, 0.0) + std::log1p(std::exp(-std::abs(x)));
        }
      });
      for (std::int64_t slab = 0; slab < all_.num_slabs(tile); ++slab)
        sum += at_slab(slab).totals.scale;
    });
    return sum;
  }

  SigmoidGradient add_sigmoid_gradient(const ColumnBlock& block, double weight,
                                       const at::Tensor& image_grad,
                                       const at::Tensor& text_grad) override {
    return add_products(block, image_grad, text_grad, [&](const Tile& tile, std::int64_t slab) {
      form_sigmoid_gradient(block, tile, slab, weight);
    });
  }

 private:
  using Tile = typename ContrastiveSlabs<T>::Tile;
  using Rows = typename ContrastiveSlabs<T>::Rows;
  using Positive = typename ContrastiveSlabs<T>::Positive;
  /// What one row slab of the tile at hand leaves behind.
  struct Slab {
    at::Tensor column_max, column_sum;  ///< over the slab's rows
    at::Tensor part;                    ///< the sums of what is not positive
    SigmoidGradient totals;
  };
  struct Weights {
    double weight;
    std::vector<T> row;          ///< weight / sum
    std::vector<T> column, max;  ///< of the block's columns, and room for a whole vector
  };

  Slab& at_slab(std::int64_t slab) { return slabs_[static_cast<std::size_t>(slab)]; }
  static double sum_of(const std::array<T, kSlabRows>& values, std::int64_t count) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += double{values[static_cast<std::size_t>(i)]};
    return sum;
  }

  /// Calls form(tile, slab), which puts G in place of the logits, and adds both products.
  template <class Form>
  SigmoidGradient add_products(const ColumnBlock& block, const at::Tensor& image_grad,
                               const at::Tensor& text_grad, Form&& form) {
    SigmoidGradient totals;
    all_.for_each_tile(block, [&](const Tile& tile) {
      on_torch_threads(all_.num_slabs(tile), [&](std::int64_t slab) {
        form(tile, slab);
        all_.add_image_gradient(block, tile, slab, image_grad);
      });
      all_.add_text_gradient(tile, text_grad);
      for (std::int64_t slab = 0; slab < all_.num_slabs(tile); ++slab) {
        totals.scale += at_slab(slab).totals.scale;
        totals.bias += at_slab(slab).totals.bias;
      }
    });
    return totals;
  }

  void add_rows(const ColumnBlock& block, const Tile& tile, std::int64_t number,
                SoftmaxSums& sums) {
    all_.form_logits(block, tile, number, kernel_);
    Slab& slab = at_slab(number);
    const Rows rows = all_.rows_of(tile, number);
    const std::int64_t first = tile.row + rows.first;
    T* column_max = values_of<T>(slab.column_max);
    double* column_sum = values_of<double>(slab.column_sum);
    T* row_max = values_of<T>(sums.row_max) + first;
    double* row_sum = values_of<double>(sums.row_sum) + first;
    double* positive_mean = values_of<double>(sums.positive_mean) + first;

    std::array<T, kSlabRows> old_max, part;
    std::copy(row_max, row_max + rows.count, old_max.begin());
    std::fill(column_max, column_max + all_.width(), T(kLowestReference));
    kernel_.maxima(all_.logits(tile, number), row_max, column_max);
    for (const Positive& p : all_.positives(number)) {
      const T logit = static_cast<T>(p.logit);
      row_max[p.row] = std::max(row_max[p.row], logit);
      column_max[p.column] = std::max(column_max[p.column], logit);
    }
    T* column_part = values_of<T>(slab.part);
    kernel_.sums(all_.logits(tile, number), row_max, column_max, part.data(), column_part);
    for (std::int64_t i = 0; i < rows.count; ++i) {
      const auto k = static_cast<std::size_t>(i);
      row_sum[i] = row_sum[i] * std::exp(double{old_max[k]} - double{row_max[i]}) + double{part[k]};
    }
    std::copy(column_part, column_part + tile.num_columns, column_sum);
    for (const Positive& p : all_.positives(number)) {
      row_sum[p.row] += std::exp(p.logit - double{row_max[p.row]});
      column_sum[p.column] += std::exp(p.logit - double{column_max[p.column]});
      positive_mean[p.row] += p.logit / all_.num_positives(first + p.row);
    }
  }

  /// Takes the slabs' column sums into the whole, slab by slab.
  void join_columns(const ColumnBlock& block, const Tile& tile, std::int64_t piece,
                    SoftmaxSums& sums) {
    const std::int64_t begin = block.first_column + tile.column;
    T* max = values_of<T>(sums.column_max) + begin;
    double* sum = values_of<double>(sums.column_sum) + begin;
    const std::int64_t end = std::min((piece + 1) * kSlabColumns, tile.num_columns);
    for (std::int64_t number = 0; number < all_.num_slabs(tile); ++number) {
      const T* slab_max = values_of<T>(at_slab(number).column_max);
      const double* slab_sum = values_of<double>(at_slab(number).column_sum);
      for (std::int64_t j = piece * kSlabColumns; j < end; ++j) {
        const double rise = double{slab_max[j]} - double{max[j]};
        if (rise > 0) {
          sum[j] = sum[j] * std::exp(-rise) + slab_sum[j];
          max[j] = slab_max[j];
        } else {
          sum[j] += slab_sum[j] * std::exp(rise);
        }
      }
    }
  }

  [[nodiscard]] Weights weights_of(const ColumnBlock& block, const SoftmaxSums& sums,
                                   double weight) const {
    Weights weights{weight, {}, {}, {}};
    const double* row_sum = values_of<double>(sums.row_sum);
    const double* column_sum = values_of<double>(sums.column_sum) + block.first_column;
    const T* max = values_of<T>(sums.column_max) + block.first_column;
    const auto share = [&](double sum) { return static_cast<T>(weight / sum); };
    const std::int64_t columns = block.text.size(0);
    std::transform(row_sum, row_sum + num_rows_, std::back_inserter(weights.row), share);
    std::transform(column_sum, column_sum + columns, std::back_inserter(weights.column), share);
    weights.max.assign(max, max + columns);
    weights.column.resize(static_cast<std::size_t>(columns + kWidthMultiple));
    weights.max.resize(static_cast<std::size_t>(columns + kWidthMultiple));
    return weights;
  }

  /// The slab's G in place of its logits.
  void form_gradient(const ColumnBlock& block, const Tile& tile, std::int64_t number,
                     const SoftmaxSums& sums, const Weights& weights) {
    all_.form_logits(block, tile, number, kernel_);
    const Rows rows = all_.rows_of(tile, number);
    const std::int64_t first = tile.row + rows.first;
    const T* row_max = values_of<T>(sums.row_max) + first;
    const double* row_sum = values_of<double>(sums.row_sum) + first;
    const T* column_max = weights.max.data() + tile.column;
    const double* column_sum =
        values_of<double>(sums.column_sum) + block.first_column + tile.column;
    const LogitRows<T> logits = all_.logits(tile, number);
    std::array<T, kSlabRows> products;
    kernel_.gradient(logits, row_max, weights.row.data() + first, column_max,
                     weights.column.data() + tile.column, products.data());
    double& product = at_slab(number).totals.scale;
    product = sum_of(products, rows.count);
    for (const Positive& p : all_.positives(number)) {
      const double g = weights.weight *
                       (std::exp(p.logit - double{row_max[p.row]}) / row_sum[p.row] +
                        std::exp(p.logit - double{column_max[p.column]}) / column_sum[p.column] -
                        2 / all_.num_positives(first + p.row));
      logits.logits[p.row * logits.stride + p.column] = static_cast<T>(g);
      product += g * p.logit;
    }
  }

  void form_sigmoid_gradient(const ColumnBlock& block, const Tile& tile, std::int64_t number,
                             double weight) {
    all_.form_logits(block, tile, number, kernel_);
    const LogitRows<T> logits = all_.logits(tile, number);
    std::array<T, kSlabRows> products, sums;
    kernel_.sigmoid_gradient(logits, static_cast<T>(bias_), static_cast<T>(weight), products.data(),
                             sums.data());
    SigmoidGradient& totals = at_slab(number).totals;
    totals = {sum_of(products, logits.num_rows), sum_of(sums, logits.num_rows)};
    for (const Positive& p : all_.positives(number)) {
      const double g = -weight / (1 + std::exp(p.logit + bias_));
      logits.logits[p.row * logits.stride + p.column] = static_cast<T>(g);
      totals.scale += g * p.logit;
      totals.bias += g;
    }
  }

  at::TensorOptions options_;
  double bias_;
  std::int64_t num_rows_, num_columns_;
  ContrastiveSlabs<T> all_;
  const ContrastiveKernel<T>& kernel_;
  std::vector<Slab> slabs_;
};

}  // namespace

std::unique_ptr<ContrastiveTiles> make_fused_tiles(const at::Tensor& image, const LogitMap& map,
                                                   const PairKeys& keys, std::int64_t tile) {
  if (image.scalar_type() == at::kFloat)
    return std::make_unique<FusedTiles<float>>(image, map, keys, tile);
  return std::make_unique<FusedTiles<double>>(image, map, keys, tile);
}

std::unique_ptr<ContrastiveTiles> make_contrastive_tiles(const at::Tensor& image,
                                                         const LogitMap& map, const PairKeys& keys,
                                                         std::int64_t tile) {
  return image.is_cpu() ? make_fused_tiles(image, map, keys, tile)
                        : make_torch_tiles(image, map, keys, tile);
}

}  // namespace triphase::dist
