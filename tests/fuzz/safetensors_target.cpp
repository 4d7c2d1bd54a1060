// SPDX-License-Identifier: Apache-2.0
// Input: a safetensors file. What is accepted must lie inside the file, element by element.
#include "models/files/weights_file.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/fuzz/touch_tensors.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  const auto path = fuzz::scratch_file("x.safetensors", fuzz::text_of(data, size));
  fuzz::expect_clean_end([&] { fuzz::touch_tensors(models::read_safetensors(path), size); });
  return 0;
}
