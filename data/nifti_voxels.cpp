// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.hpp"
#include "data/nifti_file.hpp"

namespace triphase::data {
namespace {

template <std::size_t Bytes>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  using type = std::uint8_t;
};
template <>
struct UnsignedOf<2> {
  using type = std::uint16_t;
};
template <>
struct UnsignedOf<4> {
  using type = std::uint32_t;
};
template <>
struct UnsignedOf<8> {
  using type = std::uint64_t;
};

std::uint8_t with_bytes_swapped(std::uint8_t bits) { return bits; }
std::uint16_t with_bytes_swapped(std::uint16_t bits) { return __builtin_bswap16(bits); }
std::uint32_t with_bytes_swapped(std::uint32_t bits) { return __builtin_bswap32(bits); }
std::uint64_t with_bytes_swapped(std::uint64_t bits) { return __builtin_bswap64(bits); }

template <class T, bool Swapped, bool Scaled>
void convert(const std::byte* from, std::int64_t count, const NiftiHeader& header, float* out) {
  const double slope = header.slope;
  const double intercept = header.intercept;
  for (std::int64_t i = 0; i < count; ++i) {
    typename UnsignedOf<sizeof(T)>::type bits;
    std::memcpy(&bits, from + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    if constexpr (Swapped) bits = with_bytes_swapped(bits);
    const T raw = std::bit_cast<T>(bits);
    if constexpr (Scaled)
      out[i] = static_cast<float>(static_cast<double>(raw) * slope + intercept);
    else
      out[i] = static_cast<float>(raw);
  }
}

template <class T>
ConvertVoxels converter_of(const NiftiHeader& header) {
  const bool scaled = header.slope != 1 || header.intercept != 0;
  if (header.swapped) return scaled ? convert<T, true, true> : convert<T, true, false>;
  return scaled ? convert<T, false, true> : convert<T, false, false>;
}

/// Integers whose lowest and highest values are finite in HU need not be looked at one by one.
bool is_always_finite(const NiftiHeader& header) {
  if (header.type == NiftiType::kFloat32 || header.type == NiftiType::kFloat64) return false;
  constexpr double kBeyondAll = 0x1p64;
  const auto largest = static_cast<float>(std::abs(header.slope) * kBeyondAll +
                                          std::abs(header.intercept));
  return std::isfinite(largest);
}

[[noreturn]] void refuse_not_finite(const StoredScan& scan, const std::string& name) {
  const auto [nx, ny, nz] = scan.header.shape;
  const ConvertVoxels convert_row = voxel_converter(scan.header);
  std::vector<float> row(static_cast<std::size_t>(nx));
  std::int64_t count = 0;
  std::array<std::int64_t, 3> first{};
  for (std::int64_t z = 0; z < nz; ++z)
    for (std::int64_t y = 0; y < ny; ++y) {
      convert_row(scan.voxels.data() + (z * ny + y) * nx * scan.header.bytes_per_voxel, nx,
                  scan.header, row.data());
      for (std::int64_t x = 0; x < nx; ++x)
        if (!std::isfinite(row[static_cast<std::size_t>(x)]) && count++ == 0) first = {x, y, z};
    }
  throw DataError(str("volume '", name, "' has ", count,
                      " voxels that are not finite, the first at (", first[0], ", ", first[1], ", ",
                      first[2],
                      "). Convert the scan again from its source, or drop it from the manifest."));
}

}  // namespace

ConvertVoxels voxel_converter(const NiftiHeader& header) {
  switch (header.type) {
    case NiftiType::kUint8:
      return converter_of<std::uint8_t>(header);
    case NiftiType::kInt8:
      return converter_of<std::int8_t>(header);
    case NiftiType::kInt16:
      return converter_of<std::int16_t>(header);
    case NiftiType::kUint16:
      return converter_of<std::uint16_t>(header);
    case NiftiType::kInt32:
      return converter_of<std::int32_t>(header);
    case NiftiType::kUint32:
      return converter_of<std::uint32_t>(header);
    case NiftiType::kInt64:
      return converter_of<std::int64_t>(header);
    case NiftiType::kUint64:
      return converter_of<std::uint64_t>(header);
    case NiftiType::kFloat32:
      return converter_of<float>(header);
    case NiftiType::kFloat64:
      return converter_of<double>(header);
  }
  throw InternalError("a NIfTI type without a reader");
}

void check_voxels_finite(const StoredScan& scan, const std::string& name) {
  if (is_always_finite(scan.header)) return;
  constexpr std::int64_t kPiece = 4096;
  std::array<float, kPiece> values{};
  const ConvertVoxels convert_piece = voxel_converter(scan.header);
  const std::int64_t count = scan.header.num_voxels();
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    const std::int64_t length = std::min(kPiece, count - begin);
    convert_piece(scan.voxels.data() + begin * scan.header.bytes_per_voxel, length, scan.header,
                  values.data());
    // Infinity and NaN have all bits of the exponent set: an integer test, which is vectorised.
    std::uint32_t found = 0;
    for (std::int64_t i = 0; i < length; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(values[static_cast<std::size_t>(i)]);
      found |= static_cast<std::uint32_t>((bits & 0x7F800000U) == 0x7F800000U);
    }
    if (found != 0) refuse_not_finite(scan, name);
  }
}

}  // namespace triphase::data
