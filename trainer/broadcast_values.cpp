// SPDX-License-Identifier: Apache-2.0
#include "trainer/broadcast_values.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.hpp"

namespace triphase::trainer {

void broadcast_values(const at::Tensor& tensor, dist::ProcessGroup& group,
                      std::int64_t piece_bytes) {
  TRIPHASE_CHECK(InternalError, tensor.is_non_overlapping_and_dense(), "a tensor ", tensor.sizes(),
                 " with gaps in memory cannot be broadcast in place");
  const at::Tensor row = tensor.detach().as_strided({tensor.numel()}, {1});
  const at::Tensor here = row.to(at::kCPU);  // itself where it is there already
  const at::Tensor bytes = here.view(at::kByte);
  for (std::int64_t begin = 0; begin < bytes.numel(); begin += piece_bytes) {
    const std::int64_t end = std::min(begin + piece_bytes, bytes.numel());
    group.broadcast(bytes.slice(0, begin, end), /*root=*/0)->wait();
  }
  if (!tensor.is_cpu() && group.rank() != 0) row.copy_(here);
}

}  // namespace triphase::trainer
