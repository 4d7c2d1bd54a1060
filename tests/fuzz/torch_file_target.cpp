// SPDX-License-Identifier: Apache-2.0
// Input: a torch.save archive. Its sums of every member keep most mutations from the pickle inside;
// torch_pickle begins there.
#include "models/files/weights_file.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/fuzz/touch_tensors.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  const auto path = fuzz::scratch_file("x.pt", fuzz::text_of(data, size));
  fuzz::expect_clean_end([&] { fuzz::touch_tensors(models::read_torch_file(path), size); });
  return 0;
}
