// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/batch_norm.hpp"

namespace triphase::models {

/// Of all sharers' batches together, by channel.
struct JointStatistics {
  at::Tensor mean;      ///< [C] float32 (float64 when x is)
  at::Tensor variance;  ///< [C] likewise; divided by count
  double count = 0;     ///< values a channel
};

/// Every sharer's (count, mean, M2), M2 being the sum of squared distances from its mean, combined
/// in the order of the rows; never a sum of squares, which would lose the variance of large values.
/// Equal bits to all. Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
/// computing sample variances", 1979, equation 2.1. Calls gather once. No gradient.
/// @param x [B,C,...]; B may differ between sharers
[[nodiscard]] JointStatistics join_statistics(const at::Tensor& x, const GatherRows& gather);

/// (x - mean) / sqrt(variance + eps) * weight + bias, and the gradient as if all batches were one:
/// of x through the statistics too, for which backward calls gather once where x needs a gradient.
/// The gradients of weight and bias are this sharer's part: their sum over the sharers is the
/// whole. Source: Ioffe and Szegedy, "Batch normalization", 2015, section 3.
[[nodiscard]] at::Tensor normalise_jointly(const at::Tensor& x, const at::Tensor& weight,
                                           const at::Tensor& bias, const JointStatistics& joint,
                                           const GatherRows& gather, double epsilon);

}  // namespace triphase::models
