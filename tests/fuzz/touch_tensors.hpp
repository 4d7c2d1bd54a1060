// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include "models/files/weights_file.hpp"
#include "tests/fuzz/target.hpp"

namespace triphase::fuzz {

/// Reads every element that a file of `file_bytes` claims to hold, so that one outside of it is
/// seen, and checks that no tensor claims more than the file has.
inline void touch_tensors(const models::WeightsFile& file, std::size_t file_bytes) {
  for (const auto& [name, tensor] : file.tensors) {
    require(tensor.nbytes() <= file_bytes, "no tensor is larger than its file");
    require(!name.empty(), "a tensor has a name");
    static_cast<void>(tensor.to(at::kDouble).sum().item<double>());
  }
}

}  // namespace triphase::fuzz
