// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/nifti.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace triphase::data {

/// Voxel types that are read. The numbers are NIfTI's own codes.
enum class NiftiType : std::int16_t {
  kUint8 = 2,
  kInt16 = 4,
  kInt32 = 8,
  kFloat32 = 16,
  kFloat64 = 64,
  kInt8 = 256,
  kUint16 = 512,
  kUint32 = 768,
  kInt64 = 1024,
  kUint64 = 1280,
};

/// Bytes that decide whether a file is NIfTI and of which version: a whole NIfTI-2 header.
inline constexpr std::size_t kNiftiHeaderBytes = 540;

/// Where a header's voxels are.
enum class NiftiLayout {
  kSingleFile,  ///< after the header: .nii
  kPair,        ///< in a file beside it: .hdr and .img
};

/// What a NIfTI-1 or NIfTI-2 header says, checked, in this machine's byte order.
struct NiftiHeader {
  int version = 1;
  bool swapped = false;         ///< the file has the other byte order
  Shape3 shape{};
  NiftiType type = NiftiType::kInt16;
  std::int64_t bytes_per_voxel = 2;
  std::int64_t voxel_offset = 352;
  double slope = 1;             ///< 1 and 0 where the file says that there is no scaling
  double intercept = 0;
  double qfac = 1;
  std::array<double, 3> pixdim{1, 1, 1};      ///< positive
  std::array<double, 3> quaternion{};         ///< b, c, d
  std::array<double, 3> quaternion_offset{};
  Affine sform{};
  int qform_code = 0;
  int sform_code = 0;
  bool high_dimensional = false;  ///< five axes or more are declared (all but three of length 1)

  [[nodiscard]] std::int64_t num_voxels() const { return shape[0] * shape[1] * shape[2]; }
  [[nodiscard]] std::int64_t end_of_voxels() const {
    return voxel_offset + num_voxels() * bytes_per_voxel;
  }
};

/// Reads a header from the first bytes of the (inflated) file. `name` is for messages.
/// @throws DataError when it is no NIfTI header, is one of another layout, or asks for what is not read
[[nodiscard]] NiftiHeader parse_nifti_header(std::span<const std::byte> bytes, const std::string& name,
                                             const NiftiLimits& limits,
                                             NiftiLayout file_layout = NiftiLayout::kSingleFile);

/// Checks that the chain of header extensions stays between header and voxels.
/// @param bytes the whole inflated file
/// @throws DataError
void check_nifti_extensions(std::span<const std::byte> bytes, const NiftiHeader& header,
                            const std::string& name);

/// The affine that nibabel and MONAI's reader would use. @throws DataError when it is not finite
[[nodiscard]] Affine nifti_affine(const NiftiHeader& header, const std::string& name);

}  // namespace triphase::data
