// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/affine.hpp"
#include "data/gunzip.hpp"
#include "data/nifti.hpp"

namespace triphase::data {
namespace {

constexpr std::size_t kFirstVoxel = 352;
constexpr int kGzipLevel = 1;  // noise hardly compresses: 6 takes far longer for 2 % fewer bytes
static_assert(std::endian::native == std::endian::little, "files are written in this byte order");

template <class T>
void put(std::string& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

/// Field offsets: nifti1.h. Fields left at zero: no qform, no intent, no description.
void put_header(std::string& bytes, const Volume& volume) {
  constexpr std::int16_t kInt16Type = 4;
  constexpr char kMillimetres = 2;
  put(bytes, 0, std::int32_t{348});
  put(bytes, 40, std::int16_t{3});
  for (std::size_t i = 0; i < 7; ++i)
    put(bytes, 42 + 2 * i, static_cast<std::int16_t>(i < 3 ? volume.shape[i] : 1));
  put(bytes, 70, kInt16Type);
  put(bytes, 72, std::int16_t{16});
  const Vector3 spacing_mm = column_norms(linear_part(volume.affine));
  for (std::size_t i = 0; i < 8; ++i)
    put(bytes, 76 + 4 * i, i >= 1 && i <= 3 ? static_cast<float>(spacing_mm[i - 1]) : 1.0F);
  put(bytes, 108, static_cast<float>(kFirstVoxel));
  put(bytes, 112, 1.0F);
  bytes[123] = kMillimetres;
  put(bytes, 254, std::int16_t{1});
  for (std::size_t row = 0; row < 3; ++row)
    for (std::size_t column = 0; column < 4; ++column)
      put(bytes, 280 + 16 * row + 4 * column, static_cast<float>(volume.affine[row][column]));
  std::memcpy(bytes.data() + 344, "n+1", 4);
}

void put_voxels(std::string& bytes, const Volume& volume) {
  constexpr float kLow = std::numeric_limits<std::int16_t>::min();
  constexpr float kHigh = std::numeric_limits<std::int16_t>::max();
  const auto [nx, ny, nz] = volume.shape;
  std::size_t offset = kFirstVoxel;
  for (std::int64_t z = 0; z < nz; ++z)
    for (std::int64_t y = 0; y < ny; ++y)
      for (std::int64_t x = 0; x < nx; ++x, offset += sizeof(std::int16_t)) {
        const float value = volume.at(x, y, z);
        TRIPHASE_CHECK(InternalError, std::isfinite(value), "voxel (", x, ", ", y, ", ", z,
                       ") to be written is not finite");
        put(bytes, offset,
            static_cast<std::int16_t>(std::lrint(std::clamp(value, kLow, kHigh))));
      }
}

}  // namespace

void write_nifti(const std::filesystem::path& path, const Volume& volume) {
  for (const std::int64_t length : volume.shape)
    TRIPHASE_CHECK(InternalError, length >= 1 && length <= std::numeric_limits<std::int16_t>::max(),
                   "NIfTI-1 cannot hold an axis of length ", length);
  TRIPHASE_CHECK(InternalError, static_cast<std::int64_t>(volume.voxels.size()) == volume.size(),
                 "a volume of shape ", volume.shape[0], "x", volume.shape[1], "x", volume.shape[2],
                 " has ", volume.voxels.size(), " voxels");
  std::string bytes(kFirstVoxel + volume.voxels.size() * sizeof(std::int16_t), '\0');
  put_header(bytes, volume);
  put_voxels(bytes, volume);
  if (path.extension() == ".gz") bytes = gzip(std::as_bytes(std::span(bytes)), kGzipLevel);
  write_file_atomically(path, bytes);
}

}  // namespace triphase::data
