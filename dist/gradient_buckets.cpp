// SPDX-License-Identifier: Apache-2.0
#include "dist/gradient_buckets.hpp"

#include "base/error.hpp"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

// Note [Gradient order]
// Buckets follow the parameters in reverse, because backward makes the last layers' gradients
// first, and leave in the order in which they were opened. Both are functions of the parameter list
// alone, so that all ranks make the same collectives in the same order, whatever backward did on
// each.

namespace triphase::dist {
namespace {

void check_parameters(const std::vector<std::pair<std::string, at::Tensor>>& parameters) {
  std::set<const void*> seen;
  for (const auto& [name, parameter] : parameters) {
    TRIPHASE_CHECK(InternalError,
                   parameter.defined() && parameter.requires_grad() && parameter.is_leaf(), "'",
                   name, "' is no trainable parameter");
    TRIPHASE_CHECK(InternalError, parameter.is_non_overlapping_and_dense(), "parameter '", name,
                   "' has gaps in memory: sizes ", parameter.sizes(), ", strides ",
                   parameter.strides());
    TRIPHASE_CHECK(InternalError, seen.insert(parameter.unsafeGetTensorImpl()).second,
                   "parameter '", name, "' is given twice");
  }
}

void allocate(GradientBucket& bucket, int num_parts) {
  const std::int64_t padded = (bucket.numel + num_parts - 1) / num_parts * num_parts;
  const at::Tensor& like = bucket.slots.front().tensor;
  bucket.flat =
      at::zeros({padded}, at::TensorOptions(like.scalar_type()).device(like.device()));
  for (GradientSlot& slot : bucket.slots) {
    slot.view = bucket.flat.as_strided(slot.tensor.sizes(), slot.tensor.strides(), slot.offset);
    slot.tensor.mutable_grad() = slot.view;
  }
}

}  // namespace

std::vector<GradientBucket> lay_out_gradients(
    const std::vector<std::pair<std::string, at::Tensor>>& parameters, std::int64_t bucket_bytes,
    int num_parts) {
  check_parameters(parameters);
  std::vector<GradientBucket> buckets;
  std::map<std::tuple<at::ScalarType, at::DeviceType>, std::size_t> open;
  for (std::size_t i = parameters.size(); i-- > 0;) {
    const auto& [name, parameter] = parameters[i];
    const auto key = std::make_tuple(parameter.scalar_type(), parameter.device().type());
    const auto found = open.try_emplace(key, buckets.size());
    if (found.second) buckets.emplace_back();
    GradientBucket& bucket = buckets[found.first->second];
    bucket.slots.push_back({static_cast<std::int64_t>(i), name, parameter, bucket.numel, {}});
    bucket.numel += parameter.numel();
    const auto bytes = bucket.numel * static_cast<std::int64_t>(parameter.element_size());
    if (bytes >= bucket_bytes) open.erase(found.first);
  }
  for (GradientBucket& bucket : buckets) allocate(bucket, num_parts);
  return buckets;
}

std::string describe(const std::vector<GradientBucket>& buckets) {
  std::string text;
  for (std::size_t i = 0; i < buckets.size(); ++i)
    for (const GradientSlot& slot : buckets[i].slots)
      text += triphase::str("bucket ", i, ": ", slot.name, " ",
                            at::toString(slot.tensor.scalar_type()), " ", slot.tensor.sizes(),
                            " strides ", slot.tensor.strides(), "\n");
  return text;
}

std::vector<ParameterSlice> slices_of_part(const std::vector<GradientBucket>& buckets, int part,
                                           int num_parts) {
  std::vector<ParameterSlice> slices;
  for (const GradientBucket& bucket : buckets) {
    const std::int64_t length = bucket.flat.numel() / num_parts;
    for (const GradientSlot& slot : bucket.slots) {
      const std::int64_t begin = std::max(part * length - slot.offset, std::int64_t{0});
      const std::int64_t end = std::min((part + 1) * length - slot.offset, slot.tensor.numel());
      if (begin < end) slices.push_back({slot.parameter, begin, end});
    }
  }
  return slices;
}

at::Tensor slice_of(const at::Tensor& tensor, const ParameterSlice& slice) {
  return tensor.as_strided({slice.end - slice.begin}, {1}, tensor.storage_offset() + slice.begin);
}

}  // namespace triphase::dist
