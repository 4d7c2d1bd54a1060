// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/volume.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace triphase::test {

/// Writes a number into the bytes of a file at an offset of nifti1.h.
template <class T>
void put(std::string& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

/// A NIfTI-1 file of int16 voxels 0, 1, 2, ... (x fastest), 1 mm, with an identity sform.
inline std::string nifti_bytes(const data::Shape3& shape) {
  std::string bytes(352, '\0');
  put(bytes, 0, std::int32_t{348});
  put(bytes, 40, std::int16_t{3});
  for (std::size_t i = 0; i < 3; ++i) put(bytes, 42 + 2 * i, static_cast<std::int16_t>(shape[i]));
  put(bytes, 70, std::int16_t{4});
  put(bytes, 72, std::int16_t{16});
  for (std::size_t i = 0; i < 4; ++i) put(bytes, 76 + 4 * i, 1.0F);
  put(bytes, 108, 352.0F);
  put(bytes, 112, 1.0F);
  put(bytes, 254, std::int16_t{1});
  for (std::size_t row = 0; row < 3; ++row) put(bytes, 280 + 20 * row, 1.0F);
  std::memcpy(bytes.data() + 344, "n+1", 4);
  const auto voxels = static_cast<std::size_t>(shape[0] * shape[1] * shape[2]);
  for (std::size_t i = 0; i < voxels; ++i) {
    bytes.resize(bytes.size() + 2);
    put(bytes, bytes.size() - 2, static_cast<std::int16_t>(i));
  }
  return bytes;
}

}  // namespace triphase::test
