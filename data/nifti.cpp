// SPDX-License-Identifier: Apache-2.0
#include "data/nifti.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/gunzip.hpp"
#include "data/nifti_header.hpp"

namespace triphase::data {
namespace {

template <class T>
T load(const std::byte* from, bool swapped) {
  std::array<std::byte, sizeof(T)> raw{};
  std::memcpy(raw.data(), from, sizeof(T));
  if (swapped) std::reverse(raw.begin(), raw.end());
  return std::bit_cast<T>(raw);
}

/// From the file's order (x fastest) into ours (z fastest), block by block so that both stay in the
/// cache.
/// @return false when a value is not finite
template <class T, bool Swapped, bool Scaled>
bool convert(const std::byte* file, const NiftiHeader& header, Volume& volume) {
  constexpr std::int64_t kBlock = 32;
  const auto [nx, ny, nz] = header.shape;
  bool finite = true;
  for (std::int64_t y = 0; y < ny; ++y)
    for (std::int64_t z0 = 0; z0 < nz; z0 += kBlock)
      for (std::int64_t x0 = 0; x0 < nx; x0 += kBlock) {
        const std::int64_t z1 = std::min(z0 + kBlock, nz);
        const std::int64_t x1 = std::min(x0 + kBlock, nx);
        for (std::int64_t x = x0; x < x1; ++x) {
          float* out = &volume.voxels[static_cast<std::size_t>((x * ny + y) * nz)];
          for (std::int64_t z = z0; z < z1; ++z) {
            const std::int64_t place = (z * ny + y) * nx + x;
            const T raw = load<T>(file + place * static_cast<std::int64_t>(sizeof(T)), Swapped);
            float value;
            if constexpr (Scaled)
              value =
                  static_cast<float>(static_cast<double>(raw) * header.slope + header.intercept);
            else
              value = static_cast<float>(raw);
            finite = finite && std::isfinite(value);
            out[z] = value;
          }
        }
      }
  return finite;
}

template <class T>
bool convert_type(const std::byte* file, const NiftiHeader& header, Volume& volume) {
  const bool scaled = header.slope != 1 || header.intercept != 0;
  if (header.swapped)
    return scaled ? convert<T, true, true>(file, header, volume)
                  : convert<T, true, false>(file, header, volume);
  return scaled ? convert<T, false, true>(file, header, volume)
                : convert<T, false, false>(file, header, volume);
}

bool convert_voxels(const std::byte* file, const NiftiHeader& header, Volume& volume) {
  switch (header.type) {
    case NiftiType::kUint8:
      return convert_type<std::uint8_t>(file, header, volume);
    case NiftiType::kInt8:
      return convert_type<std::int8_t>(file, header, volume);
    case NiftiType::kInt16:
      return convert_type<std::int16_t>(file, header, volume);
    case NiftiType::kUint16:
      return convert_type<std::uint16_t>(file, header, volume);
    case NiftiType::kInt32:
      return convert_type<std::int32_t>(file, header, volume);
    case NiftiType::kUint32:
      return convert_type<std::uint32_t>(file, header, volume);
    case NiftiType::kInt64:
      return convert_type<std::int64_t>(file, header, volume);
    case NiftiType::kUint64:
      return convert_type<std::uint64_t>(file, header, volume);
    case NiftiType::kFloat32:
      return convert_type<float>(file, header, volume);
    case NiftiType::kFloat64:
      return convert_type<double>(file, header, volume);
  }
  throw InternalError("a NIfTI type without a reader");
}

[[noreturn]] void refuse_not_finite(const Volume& volume, const std::string& name) {
  std::int64_t count = 0;
  std::array<std::int64_t, 3> first{};
  for (std::int64_t z = 0; z < volume.shape[2]; ++z)
    for (std::int64_t y = 0; y < volume.shape[1]; ++y)
      for (std::int64_t x = 0; x < volume.shape[0]; ++x)
        if (!std::isfinite(volume.at(x, y, z)) && count++ == 0) first = {x, y, z};
  throw DataError(str("volume '", name, "' has ", count,
                      " voxels that are not finite, the first at (", first[0], ", ", first[1], ", ",
                      first[2],
                      "). Convert the scan again from its source, or drop it from the manifest."));
}

Volume read_voxels(std::span<const std::byte> bytes, const NiftiHeader& header,
                   const std::string& name) {
  check_nifti_extensions(bytes, header, name);
  Volume volume;
  volume.shape = header.shape;
  volume.affine = nifti_affine(header, name);
  volume.voxels.resize(static_cast<std::size_t>(header.num_voxels()));
  if (!convert_voxels(bytes.data() + header.voxel_offset, header, volume))
    refuse_not_finite(volume, name);
  return volume;
}

}  // namespace

Volume read_nifti(const std::filesystem::path& path, const NiftiLimits& limits) {
  const std::string name = path.string();
  const MappedFile file(path);
  if (is_gzip(file.bytes())) {
    const auto head = gunzip_prefix(file.bytes(), kNiftiHeaderBytes, name);
    const NiftiHeader header = parse_nifti_header(head, name, limits);
    return read_voxels(gunzip(file.bytes(), header.end_of_voxels(), name), header, name);
  }
  const NiftiHeader header = parse_nifti_header(file.bytes(), name, limits);
  const auto size = static_cast<std::int64_t>(file.bytes().size());
  TRIPHASE_CHECK(DataError, header.end_of_voxels() <= size, "volume '", name,
                 "' is cut short: it has ", size, " bytes, its header declares ",
                 header.end_of_voxels(), ". Fetch the file again.");
  return read_voxels(file.bytes(), header, name);
}

}  // namespace triphase::data
