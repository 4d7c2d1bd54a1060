// SPDX-License-Identifier: Apache-2.0
#pragma once

// No standard header with code: this one is compiled for several processors.
#include <cstdint>

namespace triphase::dist {

/// A logit that takes part in nothing: its exponential is 0 against every reference.
inline constexpr double kExcludedLogit = -1e30;
/// References of maxima are never below it, so that a row without logits has the sum 0.
inline constexpr double kLowestReference = -1e29;
/// Widths are multiples of it: rows need no rest loop in any width of vector.
inline constexpr std::int64_t kWidthMultiple = 16;

/// num_rows x width logits; rows lie `stride` elements after each other.
template <class T>
struct LogitRows {
  T* logits;
  std::int64_t num_rows;
  std::int64_t stride;
  std::int64_t width;  ///< a multiple of kWidthMultiple
};

/// What is done to a slab of logits beside its matrix products, in the vectors of one kind of
/// processor. Every sum is formed in an order that depends on the vector width alone. Purely local,
/// on the calling thread.
template <class T>
struct ContrastiveKernel {
  const char* name;     ///< "avx512", "avx2", "any"
  bool (*is_usable)();  ///< on this processor
  /// row_max[i], column_max[j] = the larger of itself and the slab's; NaN is passed over.
  void (*maxima)(const LogitRows<T>&, T* row_max, T* column_max);
  /// row_sum[i] = sum_j exp(S_ij - row_max[i]); column_sum[j] = sum_i exp(S_ij - column_max[j]).
  void (*sums)(const LogitRows<T>&, const T* row_max, const T* column_max, T* row_sum,
               T* column_sum);
  /// S_ij becomes G_ij = exp(S_ij - row_max[i]) row_weight[i] + exp(S_ij - column_max[j])
  /// column_weight[j]; row_product[i] = sum_j G_ij S_ij.
  void (*gradient)(const LogitRows<T>&, const T* row_max, const T* row_weight, const T* column_max,
                   const T* column_weight, T* row_product);
  /// S_ij of another group becomes kExcludedLogit. Groups are whole numbers.
  void (*exclude_other_groups)(const LogitRows<T>&, const T* row_group, const T* column_group);
  /// row_sum[i] = sum_j log(1 + exp(S_ij + bias)).
  void (*softplus_sums)(const LogitRows<T>&, T bias, T* row_sum);
  /// S_ij becomes G_ij = weight / (1 + exp(-S_ij - bias)); row_product[i] = sum_j G_ij S_ij,
  /// row_sum[i] = sum_j G_ij.
  void (*sigmoid_gradient)(const LogitRows<T>&, T bias, T weight, T* row_product, T* row_sum);
};

/// The one for this processor: the widest vectors it has.
template <class T>
[[nodiscard]] const ContrastiveKernel<T>& contrastive_kernel();

/// All that were compiled, the widest first; for tests. `count` receives their number.
template <class T>
[[nodiscard]] const ContrastiveKernel<T>* const* all_contrastive_kernels(int& count);

}  // namespace triphase::dist
