# SPDX-License-Identifier: Apache-2.0
# One precompiled LibTorch header for every target that uses modules or autograd: it costs about 30 s
# once and saves about 10 s in each such file. Files that need only Tensor.h are faster without it.
file(WRITE "${PROJECT_BINARY_DIR}/torch_pch.cpp" "// Holds the precompiled header.\n")
add_library(triphase_torch_pch STATIC "${PROJECT_BINARY_DIR}/torch_pch.cpp")
target_link_libraries(triphase_torch_pch PUBLIC triphase::options torch::cpu)
target_precompile_headers(triphase_torch_pch PRIVATE
  <ATen/ATen.h>
  <torch/csrc/autograd/custom_function.h>
  <torch/csrc/autograd/autograd.h>
  <torch/types.h>
  <torch/nn/module.h>
  <torch/nn/modules/conv.h>
  <torch/nn/modules/linear.h>
  <torch/nn/modules/batchnorm.h>
  <torch/nn/modules/normalization.h>
  <torch/nn/modules/embedding.h>
  <torch/nn/modules/container/modulelist.h>
  <torch/nn/modules/container/sequential.h>
  <torch/nn/init.h>)
