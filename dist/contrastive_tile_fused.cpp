// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <vector>

#include "dist/contrastive_kernel.hpp"
#include "dist/contrastive_tile.hpp"
#include "dist/positive_columns.hpp"
#include "dist/torch_threads.hpp"

// Note [Fused tiles]
// A tile's rows are cut into slabs of kSlabRows, its columns into slabs of kSlabColumns: fixed
// sizes, each slab the work of one thread, every sum over slabs in their order. So the number of
// threads changes no bit. A row slab (64 x 1024 float32 logits: 256 KiB) stays in a core's
// second-level cache from its product to its last pass.
//
// Positives are few and decide the precision (Note [Small losses]): they are taken out of the slab
// (kExcludedLogit stands in their place) and done one by one in float64.

namespace triphase::dist {
namespace {

constexpr std::int64_t kSlabRows = 64;
constexpr std::int64_t kSlabColumns = 128;

std::int64_t num_pieces(std::int64_t count, std::int64_t piece) {
  return (count + piece - 1) / piece;
}

/// A tensor's values where autograd and the dispatcher do not look.
template <class T>
T* values_of(const at::Tensor& tensor) {
  return const_cast<T*>(tensor.const_data_ptr<T>());
}

template <class T>
class FusedTiles final : public ContrastiveTiles {
 public:
  FusedTiles(const at::Tensor& image, double scale, const PairKeys& keys, std::int64_t tile)
      : image_(image.detach()),
        scale_(scale),
        num_rows_(image.size(0)),
        num_columns_(keys.column.numel()),
        tile_(tile),
        positives_(keys),
        kernel_(contrastive_kernel<T>()) {
    const std::int64_t rows = std::min(tile, num_rows_);
    width_ = num_pieces(std::min(tile, num_columns_), kWidthMultiple) * kWidthMultiple;
    slabs_.resize(static_cast<std::size_t>(num_pieces(rows, kSlabRows)));
    logits_ = at::empty({rows * width_}, image.options());
    for (Slab& slab : slabs_) {
      slab.column_max = at::empty({width_}, image.options());
      slab.part = at::empty({width_}, image.options());
      slab.column_sum = at::empty({width_}, at::kDouble);
    }
  }

  [[nodiscard]] SoftmaxSums start() const override {
    const auto lowest = [&](std::int64_t count) {
      return at::full({count}, kLowestReference, image_.options());
    };
    const auto zeros = [](std::int64_t count) { return at::zeros({count}, at::kDouble); };
    return {lowest(num_rows_), zeros(num_rows_), lowest(num_columns_), zeros(num_columns_),
            zeros(num_rows_)};
  }

  void add(const ColumnBlock& block, SoftmaxSums& sums) override {
    for_each_tile(block, [&](const Tile& tile) {
      on_torch_threads(num_pieces(tile.num_rows, kSlabRows),
                       [&](std::int64_t slab) { add_rows(block, tile, slab, sums); });
      on_torch_threads(num_pieces(tile.num_columns, kSlabColumns),
                       [&](std::int64_t piece) { join_columns(block, tile, piece, sums); });
    });
  }

  double add_gradient(const ColumnBlock& block, const SoftmaxSums& sums, double weight,
                      const at::Tensor& image_grad, const at::Tensor& text_grad) override {
    const Weights weights = weights_of(block, sums, weight);
    double product = 0;
    for_each_tile(block, [&](const Tile& tile) {
      const std::int64_t num_slabs = num_pieces(tile.num_rows, kSlabRows);
      on_torch_threads(num_slabs, [&](std::int64_t slab) {
        form_gradient(block, tile, slab, sums, weights);
        const Rows rows = rows_of(tile, slab);
        at::Tensor into = matrix(values_of<T>(image_grad) + (tile.row + rows.first) * embedding(),
                                 rows.count, embedding(), embedding());
        at::cpu::addmm_(into, slab_matrix(tile, rows), texts(block, tile.column, tile.num_columns),
                        1, scale_);
      });
      on_torch_threads(num_pieces(tile.num_columns, kSlabColumns), [&](std::int64_t piece) {
        const std::int64_t first = piece * kSlabColumns;
        const std::int64_t count = std::min(kSlabColumns, tile.num_columns - first);
        at::Tensor into = matrix(values_of<T>(text_grad) + (tile.column + first) * embedding(),
                                 count, embedding(), embedding());
        const at::Tensor g = matrix(values_of<T>(logits_) + first, tile.num_rows, count, width_);
        at::cpu::addmm_(into, g.t(), images(tile.row, tile.num_rows), 1, scale_);
      });
      for (std::int64_t slab = 0; slab < num_slabs; ++slab) product += at_slab(slab).product;
    });
    return product;
  }

 private:
  struct Tile {
    std::int64_t row, num_rows, column, num_columns;  ///< columns of the block
  };
  struct Rows {
    std::int64_t first, count;  ///< of a slab, in the tile
  };
  struct Positive {
    std::int64_t row, column;  ///< in the tile
    double logit;
  };
  /// What one row slab of the tile at hand leaves behind.
  struct Slab {
    std::vector<Positive> positives;
    at::Tensor column_max, column_sum;  ///< over the slab's rows
    at::Tensor part;                    ///< the sums of negatives
    double product = 0;
  };
  struct Weights {
    double weight;
    std::vector<T> row;          ///< weight / sum
    std::vector<T> column, max;  ///< of the block's columns, and room for a whole vector
  };

  Slab& at_slab(std::int64_t slab) { return slabs_[static_cast<std::size_t>(slab)]; }
  [[nodiscard]] std::int64_t embedding() const { return image_.size(1); }
  [[nodiscard]] at::Tensor matrix(T* values, std::int64_t rows, std::int64_t columns,
                                  std::int64_t stride) const {
    return at::from_blob(values, {rows, columns}, {stride, 1}, image_.options());
  }
  [[nodiscard]] at::Tensor images(std::int64_t row, std::int64_t count) const {
    return matrix(values_of<T>(image_) + row * embedding(), count, embedding(), embedding());
  }
  [[nodiscard]] at::Tensor texts(const ColumnBlock& block, std::int64_t column,
                                 std::int64_t count) const {
    return matrix(values_of<T>(block.text) + column * embedding(), count, embedding(), embedding());
  }
  [[nodiscard]] static Rows rows_of(const Tile& tile, std::int64_t slab) {
    const std::int64_t first = slab * kSlabRows;
    return {first, std::min(kSlabRows, tile.num_rows - first)};
  }
  [[nodiscard]] T* slab_logits(const Rows& rows) const {
    return values_of<T>(logits_) + rows.first * width_;
  }
  [[nodiscard]] at::Tensor slab_matrix(const Tile& tile, const Rows& rows) const {
    return matrix(slab_logits(rows), rows.count, tile.num_columns, width_);
  }
  [[nodiscard]] LogitRows<T> used(const Tile& tile, const Rows& rows) const {
    return {slab_logits(rows), rows.count, width_, padded(tile.num_columns)};
  }
  [[nodiscard]] static std::int64_t padded(std::int64_t columns) {
    return num_pieces(columns, kWidthMultiple) * kWidthMultiple;
  }

  template <class Body>
  void for_each_tile(const ColumnBlock& block, Body&& body) {
    const std::int64_t columns = block.text.size(0);
    for (std::int64_t row = 0; row < num_rows_; row += tile_)
      for (std::int64_t column = 0; column < columns; column += tile_)
        body(
            Tile{row, std::min(tile_, num_rows_ - row), column, std::min(tile_, columns - column)});
  }

  /// The slab's logits with the positives taken out of them.
  void form_logits(const ColumnBlock& block, const Tile& tile, std::int64_t slab) {
    const Rows rows = rows_of(tile, slab);
    at::Tensor logits = slab_matrix(tile, rows);
    at::cpu::addmm_(logits, images(tile.row + rows.first, rows.count),
                    texts(block, tile.column, tile.num_columns).t(), 0, scale_);
    std::vector<Positive>& positives = at_slab(slab).positives;
    positives.clear();
    const std::int64_t begin = block.first_column + tile.column;
    for (std::int64_t i = rows.first; i < rows.first + rows.count; ++i) {
      T* row = values_of<T>(logits_) + i * width_;
      std::fill(row + tile.num_columns, row + padded(tile.num_columns), T(kExcludedLogit));
      auto [at, end] = positives_.within(tile.row + i, begin, begin + tile.num_columns);
      for (; at != end; ++at) {
        positives.push_back({i, *at - begin, static_cast<double>(row[*at - begin])});
        row[*at - begin] = T(kExcludedLogit);
      }
    }
  }

  void add_rows(const ColumnBlock& block, const Tile& tile, std::int64_t number,
                SoftmaxSums& sums) {
    form_logits(block, tile, number);
    Slab& slab = at_slab(number);
    const Rows rows = rows_of(tile, number);
    const std::int64_t first = tile.row + rows.first;
    T* column_max = values_of<T>(slab.column_max);
    double* column_sum = values_of<double>(slab.column_sum);
    T* row_max = values_of<T>(sums.row_max) + first;
    double* row_sum = values_of<double>(sums.row_sum) + first;
    double* positive_mean = values_of<double>(sums.positive_mean) + first;

    std::array<T, kSlabRows> old_max, part;
    std::copy(row_max, row_max + rows.count, old_max.begin());
    std::fill(column_max, column_max + width_, T(kLowestReference));
    kernel_.maxima(used(tile, rows), row_max, column_max);
    for (const Positive& p : slab.positives) {
      const T logit = static_cast<T>(p.logit);
      row_max[p.row - rows.first] = std::max(row_max[p.row - rows.first], logit);
      column_max[p.column] = std::max(column_max[p.column], logit);
    }
    T* column_part = values_of<T>(slab.part);
    kernel_.sums(used(tile, rows), row_max, column_max, part.data(), column_part);
    for (std::int64_t i = 0; i < rows.count; ++i) {
      const auto k = static_cast<std::size_t>(i);
      row_sum[i] = row_sum[i] * std::exp(double{old_max[k]} - double{row_max[i]}) + double{part[k]};
    }
    std::copy(column_part, column_part + tile.num_columns, column_sum);
    for (const Positive& p : slab.positives) {
      const std::int64_t i = p.row - rows.first;
      row_sum[i] += std::exp(p.logit - double{row_max[i]});
      column_sum[p.column] += std::exp(p.logit - double{column_max[p.column]});
      positive_mean[i] += p.logit / static_cast<double>(positives_.count(first + i));
    }
  }

  /// Takes the slabs' column sums into the whole, slab by slab.
  void join_columns(const ColumnBlock& block, const Tile& tile, std::int64_t piece,
                    SoftmaxSums& sums) {
    const std::int64_t begin = block.first_column + tile.column;
    T* max = values_of<T>(sums.column_max) + begin;
    double* sum = values_of<double>(sums.column_sum) + begin;
    const std::int64_t end = std::min((piece + 1) * kSlabColumns, tile.num_columns);
    for (std::int64_t number = 0; number < num_pieces(tile.num_rows, kSlabRows); ++number) {
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
    form_logits(block, tile, number);
    Slab& slab = at_slab(number);
    const Rows rows = rows_of(tile, number);
    const std::int64_t first = tile.row + rows.first;
    const T* row_max = values_of<T>(sums.row_max) + first;
    const double* row_sum = values_of<double>(sums.row_sum) + first;
    const T* column_max = weights.max.data() + tile.column;
    const double* column_sum =
        values_of<double>(sums.column_sum) + block.first_column + tile.column;
    std::array<T, kSlabRows> products;
    kernel_.gradient(used(tile, rows), row_max, weights.row.data() + first, column_max,
                     weights.column.data() + tile.column, products.data());
    slab.product = 0;
    for (std::int64_t i = 0; i < rows.count; ++i)
      slab.product += double{products[static_cast<std::size_t>(i)]};
    for (const Positive& p : slab.positives) {
      const std::int64_t i = p.row - rows.first;
      const double target = 2.0 / static_cast<double>(positives_.count(first + i));
      const double g =
          weights.weight *
          (std::exp(p.logit - double{row_max[i]}) / row_sum[i] +
           std::exp(p.logit - double{column_max[p.column]}) / column_sum[p.column] - target);
      slab_logits(rows)[i * width_ + p.column] = static_cast<T>(g);
      slab.product += g * p.logit;
    }
  }

  at::Tensor image_;
  double scale_;
  std::int64_t num_rows_, num_columns_, tile_, width_ = 0;
  PositiveColumns positives_;
  const ContrastiveKernel<T>& kernel_;
  at::Tensor logits_;
  std::vector<Slab> slabs_;
};

}  // namespace

std::unique_ptr<ContrastiveTiles> make_fused_tiles(const at::Tensor& image, double scale,
                                                   const PairKeys& keys, std::int64_t tile) {
  if (image.scalar_type() == at::kFloat)
    return std::make_unique<FusedTiles<float>>(image, scale, keys, tile);
  return std::make_unique<FusedTiles<double>>(image, scale, keys, tile);
}

std::unique_ptr<ContrastiveTiles> make_contrastive_tiles(const at::Tensor& image, double scale,
                                                         const PairKeys& keys, std::int64_t tile) {
  return image.is_cpu() ? make_fused_tiles(image, scale, keys, tile)
                        : make_torch_tiles(image, scale, keys, tile);
}

}  // namespace triphase::dist
