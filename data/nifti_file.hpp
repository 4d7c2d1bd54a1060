// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/file.hpp"
#include "data/byte_buffer.hpp"
#include "data/nifti_header.hpp"

#include <optional>

namespace triphase::data {

/// A scan as its file holds it: typed voxels, x fastest, not scaled yet.
struct StoredScan {
  NiftiHeader header;
  Affine affine{};
  std::span<const std::byte> voxels;  ///< header.num_voxels() * header.bytes_per_voxel
  std::optional<MappedFile> mapped;   ///< `voxels` lies in this, or in `inflated`
  ByteBuffer inflated;
};

/// Opens a scan; its voxels may still be not finite. @throws DataError as read_nifti()
[[nodiscard]] StoredScan open_nifti(const std::filesystem::path& path, const NiftiLimits& limits,
                                    const ScanCorrection& correction = {});

/// Voxels in HU. @param from the first of `count` voxels as stored
using ConvertVoxels = void (*)(const std::byte* from, std::int64_t count, const NiftiHeader& header,
                               float* out);
[[nodiscard]] ConvertVoxels voxel_converter(const NiftiHeader& header);

/// @throws DataError that names the first voxel that is not finite
void check_voxels_finite(const StoredScan& scan, const std::string& name);

}  // namespace triphase::data
