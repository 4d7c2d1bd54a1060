// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <vector>

#include "dist/contrastive_kernel.hpp"
#include "dist/contrastive_tile.hpp"
#include "dist/positive_columns.hpp"
#include "base/torch_threads.hpp"

// Note [Fused tiles]
// A tile's rows are cut into slabs of kSlabRows, its columns into slabs of kSlabColumns: fixed
// sizes, each slab the work of one thread, every sum over slabs in their order. So the number of
// threads changes no bit. A row slab (64 x 1024 float32 logits: 256 KiB) stays in a core's
// second-level cache from its product to its last pass.
//
// Positives are few and decide the precision (Note [Small losses]): they are taken out of the slab
// (kExcludedLogit stands in their place) and done one by one in float64.

namespace triphase::dist {

inline constexpr std::int64_t kSlabRows = 64;
inline constexpr std::int64_t kSlabColumns = 128;

inline std::int64_t num_pieces(std::int64_t count, std::int64_t piece) {
  return (count + piece - 1) / piece;
}

/// A tensor's values where autograd and the dispatcher do not look.
template <class T>
T* values_of(const at::Tensor& tensor) {
  return const_cast<T*>(tensor.const_data_ptr<T>());
}

/// The logits of one tile at a time, slab by slab, and the products around them. CPU tensors.
template <class T>
class ContrastiveSlabs {
 public:
  struct Tile {
    std::int64_t row, num_rows, column, num_columns;  ///< columns of the block
  };
  struct Rows {
    std::int64_t first, count;  ///< of a slab, in the tile
  };
  struct Positive {
    std::int64_t row, column;  ///< of the slab, of the tile
    double logit;
  };

  ContrastiveSlabs(const at::Tensor& image, double scale, const PairKeys& keys, std::int64_t tile)
      : image_(image.detach()), scale_(scale), tile_(tile), positives_(keys) {
    const std::int64_t rows = std::min(tile, image.size(0));
    width_ = padded(std::min(tile, keys.column.numel()));
    positives_of_.resize(static_cast<std::size_t>(num_pieces(rows, kSlabRows)));
    logits_ = at::empty({rows * width_}, image.options());
    if (!keys.row_group.defined()) return;
    row_group_ = as_numbers(keys.row_group);
    column_group_ = as_numbers(keys.column_group);
  }

  [[nodiscard]] std::int64_t width() const { return width_; }
  [[nodiscard]] std::int64_t num_slabs() const {
    return static_cast<std::int64_t>(positives_of_.size());
  }
  [[nodiscard]] static std::int64_t num_slabs(const Tile& tile) {
    return num_pieces(tile.num_rows, kSlabRows);
  }
  [[nodiscard]] static Rows rows_of(const Tile& tile, std::int64_t slab) {
    const std::int64_t first = slab * kSlabRows;
    return {first, std::min(kSlabRows, tile.num_rows - first)};
  }
  [[nodiscard]] LogitRows<T> logits(const Tile& tile, std::int64_t slab) const {
    const Rows rows = rows_of(tile, slab);
    return {values_of<T>(logits_) + rows.first * width_, rows.count, width_,
            padded(tile.num_columns)};
  }
  [[nodiscard]] const std::vector<Positive>& positives(std::int64_t slab) const {
    return positives_of_[static_cast<std::size_t>(slab)];
  }
  /// How many positives a row of the batch has in all.
  [[nodiscard]] double num_positives(std::int64_t row) const {
    return static_cast<double>(positives_.count(row));
  }

  template <class Body>
  void for_each_tile(const ColumnBlock& block, Body&& body) {
    const std::int64_t rows = image_.size(0);
    const std::int64_t columns = block.text.size(0);
    for (std::int64_t row = 0; row < rows; row += tile_)
      for (std::int64_t column = 0; column < columns; column += tile_)
        body(Tile{row, std::min(tile_, rows - row), column, std::min(tile_, columns - column)});
  }

  /// The slab's logits; positives and what is not compared are taken out of them.
  void form_logits(const ColumnBlock& block, const Tile& tile, std::int64_t slab,
                   const ContrastiveKernel<T>& kernel) {
    const Rows rows = rows_of(tile, slab);
    const std::int64_t first = tile.row + rows.first;
    at::Tensor product = slab_matrix(tile, slab);
    at::cpu::addmm_(product, rows_at(image_, first, rows.count),
                    rows_at(block.text, tile.column, tile.num_columns).t(), 0, scale_);
    const LogitRows<T> slab_logits = logits(tile, slab);
    std::vector<Positive>& positives = positives_of_[static_cast<std::size_t>(slab)];
    positives.clear();
    const std::int64_t begin = block.first_column + tile.column;
    for (std::int64_t i = 0; i < rows.count; ++i) {
      T* row = slab_logits.logits + i * width_;
      std::fill(row + tile.num_columns, row + slab_logits.width, T(kExcludedLogit));
      auto [at, end] = positives_.within(first + i, begin, begin + tile.num_columns);
      for (; at != end; ++at) {
        positives.push_back({i, *at - begin, static_cast<double>(row[*at - begin])});
        row[*at - begin] = T(kExcludedLogit);
      }
    }
    if (!row_group_.empty())
      kernel.exclude_other_groups(slab_logits, row_group_.data() + first,
                                  column_group_.data() + begin);
  }

  /// image_grad's rows of the slab += scale G Y, where G stands in place of the slab's logits.
  void add_image_gradient(const ColumnBlock& block, const Tile& tile, std::int64_t slab,
                          const at::Tensor& image_grad) const {
    const Rows rows = rows_of(tile, slab);
    at::Tensor into = rows_at(image_grad, tile.row + rows.first, rows.count);
    at::cpu::addmm_(into, slab_matrix(tile, slab),
                    rows_at(block.text, tile.column, tile.num_columns), 1, scale_);
  }
  /// text_grad's rows of the tile += scale G^T X, once all slabs hold G. Uses all threads.
  void add_text_gradient(const Tile& tile, const at::Tensor& text_grad) const {
    on_torch_threads(num_pieces(tile.num_columns, kSlabColumns), [&](std::int64_t piece) {
      const std::int64_t first = piece * kSlabColumns;
      const std::int64_t count = std::min(kSlabColumns, tile.num_columns - first);
      at::Tensor into = rows_at(text_grad, tile.column + first, count);
      const at::Tensor g = matrix(values_of<T>(logits_) + first, tile.num_rows, count, width_);
      at::cpu::addmm_(into, g.t(), rows_at(image_, tile.row, tile.num_rows), 1, scale_);
    });
  }

 private:
  [[nodiscard]] static std::int64_t padded(std::int64_t columns) {
    return num_pieces(columns, kWidthMultiple) * kWidthMultiple;
  }
  /// With room for a whole vector at the end.
  [[nodiscard]] static std::vector<T> as_numbers(const at::Tensor& groups) {
    const std::int64_t* from = groups.const_data_ptr<std::int64_t>();
    std::vector<T> numbers(from, from + groups.numel());
    numbers.resize(numbers.size() + kWidthMultiple, T(-1));
    return numbers;
  }
  [[nodiscard]] at::Tensor matrix(T* values, std::int64_t rows, std::int64_t columns,
                                  std::int64_t stride) const {
    return at::from_blob(values, {rows, columns}, {stride, 1}, image_.options());
  }
  [[nodiscard]] at::Tensor rows_at(const at::Tensor& of, std::int64_t row,
                                   std::int64_t count) const {
    const std::int64_t e = image_.size(1);
    return matrix(values_of<T>(of) + row * e, count, e, e);
  }
  [[nodiscard]] at::Tensor slab_matrix(const Tile& tile, std::int64_t slab) const {
    const LogitRows<T> rows = logits(tile, slab);
    return matrix(rows.logits, rows.num_rows, tile.num_columns, width_);
  }

  at::Tensor image_;
  double scale_;
  std::int64_t tile_, width_ = 0;
  PositiveColumns positives_;
  at::Tensor logits_;
  std::vector<std::vector<Positive>> positives_of_;  ///< of a slab
  std::vector<T> row_group_, column_group_;
};

}  // namespace triphase::dist
