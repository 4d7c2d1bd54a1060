// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace triphase::dist {

/// Which pairs belong together: row i and column j are positives of each other when their keys are
/// equal. Row i is column first_row + i.
struct PairKeys {
  at::Tensor row;     ///< [b] int64, on the host
  at::Tensor column;  ///< [B] int64, on the host
};

/// Texts against which the rows stand next.
struct ColumnBlock {
  at::Tensor text;                ///< [n,E] contiguous, dtype and device of the images
  std::int64_t first_column = 0;  ///< of the global batch
};

/// What the symmetric cross-entropy needs of all logits S: log-sum-exps as maximum and
/// sum of exp(S - maximum), and each row's mean over its positives.
struct SoftmaxSums {
  at::Tensor row_max;        ///< [b] the images' dtype
  at::Tensor row_sum;        ///< [b] float64
  at::Tensor column_max;     ///< [B] the images' dtype; over this rank's rows until joined
  at::Tensor column_sum;     ///< [B] float64
  at::Tensor positive_mean;  ///< [b] float64
};

/// One rank's rows of the logits S_ij = scale x_i.y_j, tile by tile: at most `tile` x `tile` of
/// them exist at a time. Results have the same bits on every run and with every number of threads.
/// Purely local. CPU tensors: fused passes in vectors; other devices: LibTorch's operations.
class ContrastiveTiles {
 public:
  virtual ~ContrastiveTiles() = default;
  [[nodiscard]] virtual SoftmaxSums start() const = 0;
  /// Takes a block's logits into the sums.
  virtual void add(const ColumnBlock& block, SoftmaxSums& sums) = 0;
  /// With G_ij = weight (exp(S_ij) / rows' sum i + exp(S_ij) / columns' sum j - 2 T_ij), where T_ij
  /// is 1 / (number of i's positives) at positives: adds scale G Y to image_grad [b,E], scale G^T X
  /// to text_grad [n,E], and returns sum_ij G_ij S_ij.
  virtual double add_gradient(const ColumnBlock& block, const SoftmaxSums& sums, double weight,
                              const at::Tensor& image_grad, const at::Tensor& text_grad) = 0;
};

/// @param image [b,E] contiguous, float32 or float64
[[nodiscard]] std::unique_ptr<ContrastiveTiles> make_contrastive_tiles(const at::Tensor& image,
                                                                       double scale,
                                                                       const PairKeys& keys,
                                                                       std::int64_t tile);

/// The two kinds behind make_contrastive_tiles. LibTorch's operations take CPU tensors, too.
[[nodiscard]] std::unique_ptr<ContrastiveTiles> make_fused_tiles(const at::Tensor& image,
                                                                 double scale, const PairKeys& keys,
                                                                 std::int64_t tile);
[[nodiscard]] std::unique_ptr<ContrastiveTiles> make_torch_tiles(const at::Tensor& image,
                                                                 double scale, const PairKeys& keys,
                                                                 std::int64_t tile);

}  // namespace triphase::dist
