// SPDX-License-Identifier: Apache-2.0
// How dropout numbers the elements of a tensor. Used by dropout.cpp alone.
#pragma once

#include "models/dropout.hpp"

namespace triphase::models {

/// A tensor seen as rows of `columns` elements.
struct DropoutRows {
  std::int64_t columns = 1;
  std::int64_t rows_per_head = 1;
  std::int64_t heads = 1;
  AttentionRows attention{};
};

/// The numerator of the chance that 32 random bits are below it.
[[nodiscard]] std::uint32_t dropout_threshold(double p);

/// Which elements are dropped, of any device: [rows, columns] bool. One kernel where LibTorch compiles one for a GPU
/// (`may_compile`), else LibTorch's operators.
/// @param bases [samples] int64 on that device; sample b's key is mix64(bases[b] ^ salt)
/// @throws InternalError when chunks are of an odd number of queries
[[nodiscard]] at::Tensor dropped_elements(const at::Tensor& bases, std::uint64_t salt, double p,
                                          const DropoutRows& rows, bool may_compile);

/// mix64() of every element of an int64 tensor, in its place.
at::Tensor& mix64_(at::Tensor& x);

}  // namespace triphase::models
