// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace triphase::models {

/// What was made of frozen tensors, kept until one of them changes: in place (its version moves) or
/// by getting other memory. For one thread at a time.
class KeptResult {
 public:
  using Tensors = std::vector<at::Tensor>;
  /// make() without gradients, or what it returned last time for the same sources and variant.
  /// @param sources none that requires a gradient; undefined ones are allowed
  [[nodiscard]] const Tensors& get(const Tensors& sources, std::int64_t variant,
                                   const std::function<Tensors()>& make);

 private:
  [[nodiscard]] bool is_of(const Tensors& sources, std::int64_t variant) const;

  Tensors sources_;  ///< they hold the memory, so that an address stands for it
  std::vector<std::uint32_t> versions_;
  std::int64_t variant_ = 0;
  Tensors result_;
};

}  // namespace triphase::models
