// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace triphase::dist {

/// Where one parameter's gradient lies.
struct GradientSlot {
  std::int64_t parameter;  ///< into the list given
  std::string name;
  at::Tensor tensor;  ///< the parameter
  std::int64_t offset;
  at::Tensor view;  ///< its gradient: a part of the bucket with the parameter's strides
};

/// Gradients of one dtype that are reduced together.
struct GradientBucket {
  std::vector<GradientSlot> slots;
  std::int64_t numel = 0;  ///< of all slots
  at::Tensor flat;         ///< numel elements, and zeros up to a multiple of the parts
};

/// Elements [begin, end) of a parameter in the order in which they lie in memory.
struct ParameterSlice {
  std::int64_t parameter;  ///< into the list given
  std::int64_t begin;
  std::int64_t end;
};

/// Buckets of at least `bucket_bytes` (the last of each dtype: what is left), in the reverse of the
/// given order, each a multiple of `num_parts` elements long. Makes the views the parameters'
/// gradients.
/// @throws InternalError when a tensor is no trainable leaf, has gaps in memory or is given twice;
///         nothing has changed then. Purely local.
[[nodiscard]] std::vector<GradientBucket> lay_out_gradients(
    const std::vector<std::pair<std::string, at::Tensor>>& parameters, std::int64_t bucket_bytes,
    int num_parts);

/// Names, shapes, dtypes, strides and bounds, a line for each parameter: what ranks compare.
[[nodiscard]] std::string describe(const std::vector<GradientBucket>& buckets);

/// What of the parameters lies in part `part` of `num_parts` equal parts of each bucket.
[[nodiscard]] std::vector<ParameterSlice> slices_of_part(const std::vector<GradientBucket>& buckets,
                                                         int part, int num_parts);

/// The slice of a dense tensor, [end - begin], sharing its memory.
[[nodiscard]] at::Tensor slice_of(const at::Tensor& tensor, const ParameterSlice& slice);

}  // namespace triphase::dist
