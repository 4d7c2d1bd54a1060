// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace triphase::data {

using Shape3 = std::array<std::int64_t, 3>;
/// Rows of a 4x4 matrix that takes voxel indices (i,j,k,1) to millimetres (x,y,z,1), RAS+.
using Affine = std::array<std::array<double, 4>, 4>;

/// One scan. Voxel (x,y,z) is voxels[(x*Y + y)*Z + z]: index order [X,Y,Z], z fastest, as the cache and
/// the tensors have it (a NIfTI file stores x fastest; the reader transposes).
struct Volume {
  std::vector<float> voxels;  ///< HU as read; scaled to output_range after preprocess()
  Shape3 shape{};             ///< X, Y, Z
  Affine affine{};

  [[nodiscard]] std::int64_t size() const { return shape[0] * shape[1] * shape[2]; }
  [[nodiscard]] float& at(std::int64_t x, std::int64_t y, std::int64_t z) {
    return voxels[static_cast<std::size_t>((x * shape[1] + y) * shape[2] + z)];
  }
  [[nodiscard]] float at(std::int64_t x, std::int64_t y, std::int64_t z) const {
    return voxels[static_cast<std::size_t>((x * shape[1] + y) * shape[2] + z)];
  }
};

}  // namespace triphase::data
