// SPDX-License-Identifier: Apache-2.0
#include "base/torch_threads.hpp"

#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>

#include <algorithm>

namespace triphase {

// at::parallel_for is a header that runs on one thread unless the file is compiled with OpenMP,
// which would bring a second OpenMP library into the process. TensorIterator's loop is LibTorch's
// own compiled one.
void on_torch_threads(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  // With one index LibTorch stays outside its threads, where products use them all.
  at::Tensor indices = at::arange(std::max<std::int64_t>(count, 2), at::kLong);
  auto iterator = at::TensorIterator::nullary_op(indices);
  const auto loop = [&](char** data, const std::int64_t* strides, std::int64_t n) {
    for (std::int64_t k = 0; k < n; ++k) {
      const auto index = *reinterpret_cast<const std::int64_t*>(data[0] + k * strides[0]);
      if (index < count) body(index);
    }
  };
  iterator.for_each(loop, /*grain_size=*/1);
}

}  // namespace triphase
