// SPDX-License-Identifier: Apache-2.0
#include "models/kept_result.hpp"

#include <ATen/ATen.h>

namespace triphase::models {
namespace {

std::uint32_t version_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<std::uint32_t>(tensor._version()) : 0;
}

const void* memory_of(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

}  // namespace

bool KeptResult::is_of(const Tensors& sources, std::int64_t variant) const {
  if (sources.size() != sources_.size() || variant != variant_) return false;
  for (std::size_t i = 0; i < sources.size(); ++i)
    if (memory_of(sources[i]) != memory_of(sources_[i]) || version_of(sources[i]) != versions_[i])
      return false;
  return true;
}

const KeptResult::Tensors& KeptResult::get(const Tensors& sources, std::int64_t variant,
                                           const std::function<Tensors()>& make) {
  if (!result_.empty() && is_of(sources, variant)) return result_;
  const at::NoGradGuard no_grad;
  result_ = make();
  sources_.clear();
  versions_.clear();
  for (const at::Tensor& source : sources) {
    // Another tensor over the same memory: the source itself may be given other memory.
    sources_.push_back(source.defined() ? source.detach() : source);
    versions_.push_back(version_of(source));
  }
  variant_ = variant;
  return result_;
}

}  // namespace triphase::models
