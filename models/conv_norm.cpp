// SPDX-License-Identifier: Apache-2.0
#include "models/conv_norm.hpp"

namespace triphase::models {

at::Tensor convolve_and_normalise(AdaptedConv3d& conv, BatchNorm& norm, const at::Tensor& x) {
  if (norm->uses_batch_statistics()) return norm(conv(x));
  return conv->forward(x, norm->running_affine());
}

}  // namespace triphase::models
