// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace triphase::dist {

/// Logits are scale x_i.y_j; the sigmoid loss adds the bias.
struct LogitMap {
  double scale = 1;
  double bias = 0;
};

/// Which pairs belong together. Row i and column j are compared when their groups are equal, and
/// are positives of each other when their keys are: equal keys are of one group. All on the host.
struct PairKeys {
  at::Tensor row;           ///< [b] int64
  at::Tensor column;        ///< [B] int64
  at::Tensor row_group;     ///< [b] int64 below 2^24, or undefined: all are compared with all
  at::Tensor column_group;  ///< [B] likewise
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

struct SigmoidGradient {
  double scale = 0;  ///< sum_ij G_ij S_ij
  double bias = 0;   ///< sum_ij G_ij
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
  /// sum_ij log(1 + exp(-z_ij (S_ij + bias))), where z is 1 at positives and -1 beside them.
  [[nodiscard]] virtual double sum_of_sigmoid_losses(const ColumnBlock& block) = 0;
  /// The same two additions with that sum's G = -weight z / (1 + exp(z (S + bias))).
  virtual SigmoidGradient add_sigmoid_gradient(const ColumnBlock& block, double weight,
                                               const at::Tensor& image_grad,
                                               const at::Tensor& text_grad) = 0;
};

/// @param image [b,E] contiguous, float32 or float64
[[nodiscard]] std::unique_ptr<ContrastiveTiles> make_contrastive_tiles(const at::Tensor& image,
                                                                       const LogitMap& map,
                                                                       const PairKeys& keys,
                                                                       std::int64_t tile);

/// The two kinds behind make_contrastive_tiles. LibTorch's operations take CPU tensors, too.
[[nodiscard]] std::unique_ptr<ContrastiveTiles> make_fused_tiles(const at::Tensor& image,
                                                                 const LogitMap& map,
                                                                 const PairKeys& keys,
                                                                 std::int64_t tile);
[[nodiscard]] std::unique_ptr<ContrastiveTiles> make_torch_tiles(const at::Tensor& image,
                                                                 const LogitMap& map,
                                                                 const PairKeys& keys,
                                                                 std::int64_t tile);

}  // namespace triphase::dist
