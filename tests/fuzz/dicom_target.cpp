// SPDX-License-Identifier: Apache-2.0
// Input: the length of a slice (4 bytes, little-endian), that slice, another slice. A series of the two that is read has finite voxels,
// as many as its shape says.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/dicom/dicom.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  const std::string_view input = fuzz::text_of(data, size);
  std::uint32_t length = 0;
  if (input.size() < sizeof length) return 0;
  std::memcpy(&length, input.data(), sizeof length);
  const std::string_view slices = input.substr(sizeof length);
  const auto first = fuzz::scratch_file("1.dcm", slices.substr(0, length));
  static_cast<void>(fuzz::scratch_file("2.dcm", slices.substr(std::min<std::size_t>(length, slices.size()))));
  fuzz::expect_clean_end([&] {
    const data::Volume scan = data::read_dicom(first.parent_path(), {.max_voxels = 1 << 20});
    fuzz::require(std::ssize(scan.voxels) == scan.size(), "there are as many voxels as the shape says");
    fuzz::require(std::all_of(scan.voxels.begin(), scan.voxels.end(), [](float voxel) { return std::isfinite(voxel); }),
                  "voxels are finite");
  });
  return 0;
}
