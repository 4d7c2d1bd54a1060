// SPDX-License-Identifier: Apache-2.0
// Input: the data.pkl of a torch.save archive.
#include <algorithm>
#include <span>
#include <string>

#include "base/error.hpp"
#include "models/files/mapped_tensors.hpp"
#include "models/files/torch_pickle.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  fuzz::expect_clean_end([&] {
    const auto bytes = std::as_bytes(std::span(data, size));
    const auto tensors = models::read_torch_pickle(bytes, "x.pt");
    fuzz::require(std::ssize(tensors) <= models::kMaxTensors, "the number of tensors is bounded");
    const auto is_natural = [](std::int64_t number) { return number >= 0; };
    for (const models::PickledTensor& tensor : tensors) {
      fuzz::require(!tensor.name.empty() && tensor.name.size() <= models::kMaxNameBytes,
                    "names are sane");
      fuzz::require(tensor.sizes.size() == tensor.strides.size() &&
                        tensor.sizes.size() <= models::kMaxDimensions,
                    "as many strides as sizes, and few");
      fuzz::require(std::all_of(tensor.sizes.begin(), tensor.sizes.end(), is_natural) &&
                        std::all_of(tensor.strides.begin(), tensor.strides.end(), is_natural) &&
                        is_natural(tensor.offset) && is_natural(tensor.storage_elements),
                    "no number is negative");
    }
  });
  return 0;
}
