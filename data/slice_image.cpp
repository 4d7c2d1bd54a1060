// SPDX-License-Identifier: Apache-2.0
#include "data/slice_image.hpp"

#include <zlib.h>

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace triphase::data {
namespace {

/// The patient's direction to which a voxel axis runs, or the opposite one.
std::string direction(const Affine& affine, std::size_t axis, bool forwards) {
  constexpr std::array<const char*, 3> kTowards{"R", "A", "S"}, kAway{"L", "P", "I"};
  std::size_t world = 0;
  for (std::size_t row = 1; row < 3; ++row)
    if (std::abs(affine[row][axis]) > std::abs(affine[world][axis])) world = row;
  return (affine[world][axis] > 0) == forwards ? kTowards[world] : kAway[world];
}

double length_mm(const Volume& volume, std::size_t axis) {
  double sum = 0;
  for (std::size_t row = 0; row < 3; ++row)
    sum += volume.affine[row][axis] * volume.affine[row][axis];
  return std::sqrt(sum) * static_cast<double>(volume.shape[axis]);
}

/// Columns run down `across`, rows down `along`: both from the last voxel to the first.
SliceImage slice(const Volume& volume, const std::array<double, 2>& range, const std::string& name,
                 std::size_t across, std::size_t along) {
  const std::size_t through = 3 - across - along;
  SliceImage image{.name = name,
                   .width = volume.shape[across],
                   .height = volume.shape[along],
                   .grey = {},
                   .width_mm = length_mm(volume, across),
                   .height_mm = length_mm(volume, along),
                   .edges = {direction(volume.affine, across, true),
                             direction(volume.affine, across, false),
                             direction(volume.affine, along, true),
                             direction(volume.affine, along, false)}};
  std::array<std::int64_t, 3> at{};
  at[through] = volume.shape[through] / 2;
  for (std::int64_t row = 0; row < image.height; ++row)
    for (std::int64_t column = 0; column < image.width; ++column) {
      at[across] = image.width - 1 - column;
      at[along] = image.height - 1 - row;
      const auto voxel = static_cast<std::size_t>(
          (at[0] * volume.shape[1] + at[1]) * volume.shape[2] + at[2]);
      const double share =
          (static_cast<double>(volume.voxels[voxel]) - range[0]) / (range[1] - range[0]);
      image.grey.push_back(
          static_cast<std::uint8_t>(std::lround(255 * std::clamp(share, 0.0, 1.0))));
    }
  return image;
}

void append_number(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out += static_cast<char>((value >> shift) & 0xFFU);
}

void append_chunk(std::string& out, const std::string& type, const std::string& content) {
  append_number(out, static_cast<std::uint32_t>(content.size()));
  const std::string checked = type + content;
  out += checked;
  append_number(out, static_cast<std::uint32_t>(
                         ::crc32(0, reinterpret_cast<const Bytef*>(checked.data()),
                                 static_cast<uInt>(checked.size()))));
}

}  // namespace

std::array<SliceImage, 3> middle_slices(const Volume& volume, const std::array<double, 2>& range) {
  return {slice(volume, range, "axial", 0, 1), slice(volume, range, "coronal", 0, 2),
          slice(volume, range, "sagittal", 1, 2)};
}

std::string png_of(const SliceImage& image) {
  std::string rows;
  for (std::int64_t row = 0; row < image.height; ++row) {
    rows += '\0';  // no filter
    rows.append(reinterpret_cast<const char*>(image.grey.data()) + row * image.width,
                static_cast<std::size_t>(image.width));
  }
  uLongf size = ::compressBound(static_cast<uLong>(rows.size()));
  std::string packed(size, '\0');
  const int result = ::compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                                 reinterpret_cast<const Bytef*>(rows.data()),
                                 static_cast<uLong>(rows.size()), 9);
  TRIPHASE_CHECK(InternalError, result == Z_OK, "zlib cannot compress a picture");
  packed.resize(size);
  std::string header;
  append_number(header, static_cast<std::uint32_t>(image.width));
  append_number(header, static_cast<std::uint32_t>(image.height));
  header += std::string("\x08\0\0\0\0", 5);  // 8 bits, grey, not interlaced
  std::string png = "\x89PNG\r\n\x1a\n";
  append_chunk(png, "IHDR", header);
  append_chunk(png, "IDAT", packed);
  append_chunk(png, "IEND", "");
  return png;
}

}  // namespace triphase::data
