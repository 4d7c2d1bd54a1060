// SPDX-License-Identifier: Apache-2.0
#include "data/nifti_header.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/error.hpp"

namespace triphase::data {
namespace {

/// Reads numbers of either byte order out of a header.
class HeaderBytes {
 public:
  HeaderBytes(std::span<const std::byte> bytes, bool swapped) : bytes_(bytes), swapped_(swapped) {}
  template <class T>
  [[nodiscard]] T get(std::size_t offset) const {
    std::array<std::byte, sizeof(T)> raw{};
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), sizeof(T), raw.begin());
    if (swapped_) std::reverse(raw.begin(), raw.end());
    return std::bit_cast<T>(raw);
  }
  template <class T, std::size_t N>
  [[nodiscard]] std::array<double, N> get_doubles(std::size_t offset) const {
    std::array<double, N> values{};
    for (std::size_t i = 0; i < N; ++i)
      values[i] = static_cast<double>(get<T>(offset + i * sizeof(T)));
    return values;
  }

 private:
  std::span<const std::byte> bytes_;
  bool swapped_;
};

/// Where the fields of each version lie. Sources: nifti1.h, nifti2.h (nifti.nimh.nih.gov).
struct Layout {
  std::size_t bytes, dim, datatype, bitpix, pixdim, vox_offset, slope, intercept;
  std::size_t qform_code, sform_code, quaternion, quaternion_offset, srow;
  std::int64_t first_voxel;
};
constexpr Layout kLayout1{348, 40, 70, 72, 76, 108, 112, 116, 252, 254, 256, 268, 280, 352};
constexpr Layout kLayout2{540, 16, 12, 14, 104, 168, 176, 184, 344, 348, 352, 376, 400, 544};

bool starts_with(std::span<const std::byte> bytes, std::size_t offset, std::string_view text) {
  return bytes.size() >= offset + text.size() &&
         std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

struct Kind {
  int version;
  bool swapped;
};

std::optional<Kind> find_kind(std::span<const std::byte> bytes) {
  for (const bool swapped : {false, true}) {
    const HeaderBytes header(bytes, swapped);
    if (bytes.size() < sizeof(std::int32_t)) return std::nullopt;
    const auto size = header.get<std::int32_t>(0);
    if (size == static_cast<std::int32_t>(kLayout1.bytes) && bytes.size() >= kLayout1.bytes)
      return Kind{1, swapped};
    if (size == static_cast<std::int32_t>(kLayout2.bytes) && bytes.size() >= kLayout2.bytes)
      return Kind{2, swapped};
  }
  return std::nullopt;
}

Kind check_kind(std::span<const std::byte> bytes, const std::string& name, NiftiLayout file_layout) {
  const std::optional<Kind> kind = find_kind(bytes);
  TRIPHASE_CHECK(DataError, kind.has_value() || bytes.size() >= kLayout1.bytes, "volume '", name,
                 "' is cut short: ", bytes.size(),
                 " bytes are less than a NIfTI header. Fetch the file again.");
  TRIPHASE_CHECK(
      DataError, kind.has_value(), "volume '", name,
      "' is not NIfTI: its header is neither 348 nor 540 bytes long. Convert it to .nii.gz.");
  const std::size_t magic_offset = kind->version == 1 ? 344 : 4;
  const std::string digit = std::to_string(kind->version);
  const bool is_single = starts_with(bytes, magic_offset, "n+" + digit);
  const bool is_pair = starts_with(bytes, magic_offset, "ni" + digit);
  TRIPHASE_CHECK(DataError, is_single || is_pair, "volume '", name,
                 "' is not NIfTI: its magic is neither 'n+", digit, "' nor 'ni", digit,
                 "'. Convert it to .nii.gz.");
  TRIPHASE_CHECK(DataError, is_single || file_layout == NiftiLayout::kPair, "volume '", name,
                 "' is the header of a .hdr/.img pair, which holds no voxels. Give it the name .hdr "
                 "and put its .img beside it, or convert the pair to one .nii.gz file.");
  TRIPHASE_CHECK(DataError, is_pair || file_layout == NiftiLayout::kSingleFile, "volume '", name,
                 "' is named as half of a .hdr/.img pair, but holds header and voxels in one file. "
                 "Give it the name .nii (compressed: .nii.gz).");
  if (kind->version == 2) {
    // Written by writers that care, to show a file that passed through a text-mode transfer.
    const bool intact = starts_with(bytes, 8, "\r\n\x1a\n");
    const bool absent = starts_with(bytes, 8, std::string_view("\0\0\0\0", 4));
    TRIPHASE_CHECK(DataError, intact || absent, "volume '", name,
                   "' was damaged by a transfer in text mode. Fetch it again in binary mode.");
  }
  return *kind;
}

std::int64_t bytes_of_type(int code, const std::string& name) {
  switch (code) {
    case 2:
    case 256:
      return 1;
    case 4:
    case 512:
      return 2;
    case 8:
    case 16:
    case 768:
      return 4;
    case 64:
    case 1024:
    case 1280:
      return 8;
    default:
      throw DataError(str("volume '", name, "' has voxels of NIfTI type ", code,
                          "; integers of 8 to 64 bits and float32 or float64 are read (no colour, "
                          "complex, binary or 128-bit types). Convert it."));
  }
}

void read_shape(const HeaderBytes& bytes, const Layout& layout, const std::string& name,
                const NiftiLimits& limits, NiftiHeader& header) {
  std::array<std::int64_t, 8> dim{};
  for (std::size_t i = 0; i < dim.size(); ++i)
    dim[i] = header.version == 1 ? bytes.get<std::int16_t>(layout.dim + 2 * i)
                                 : bytes.get<std::int64_t>(layout.dim + 8 * i);
  TRIPHASE_CHECK(DataError, dim[0] >= 1 && dim[0] <= 7, "volume '", name, "' declares ", dim[0],
                 " axes; NIfTI has 1 to 7. The header is damaged: fetch the file again.");
  TRIPHASE_CHECK(DataError, dim[0] >= 3, "volume '", name, "' has ", dim[0],
                 " axes; a scan needs three. Drop it from the manifest.");
  std::int64_t voxels = 1;
  for (std::size_t i = 1; i <= static_cast<std::size_t>(dim[0]); ++i) {
    TRIPHASE_CHECK(DataError, dim[i] >= 1, "volume '", name, "' has length ", dim[i],
                   " along axis ", i,
                   "; lengths are positive. The header is damaged: fetch the file again.");
    TRIPHASE_CHECK(DataError, i <= 3 || dim[i] == 1, "volume '", name, "' has length ", dim[i],
                   " along axis ", i, "; one scan has three axes. Split the series into volumes.");
    TRIPHASE_CHECK(DataError, dim[i] <= limits.max_voxels / voxels, "volume '", name,
                   "' declares more than ", limits.max_voxels,
                   " voxels, the largest that is read. Drop or resample it.");
    voxels *= dim[i];
  }
  header.shape = {dim[1], dim[2], dim[3]};
  header.high_dimensional = dim[0] >= 5;
}

void read_offset(const HeaderBytes& bytes, const Layout& layout, const std::string& name,
                 NiftiLayout file_layout, NiftiHeader& header) {
  const std::int64_t first_voxel = file_layout == NiftiLayout::kPair ? 0 : layout.first_voxel;
  // 2^40: far beyond any file with one scan, and well inside both double and int64.
  constexpr double kLargestOffset = 0x1p40;
  const double offset = header.version == 1
                            ? static_cast<double>(bytes.get<float>(layout.vox_offset))
                            : static_cast<double>(bytes.get<std::int64_t>(layout.vox_offset));
  TRIPHASE_CHECK(DataError, std::isfinite(offset) && offset == std::floor(offset), "volume '", name,
                 "' says that its voxels start at byte ", offset,
                 "; that is no whole number. The header is damaged: fetch the file again.");
  TRIPHASE_CHECK(
      DataError, offset >= static_cast<double>(first_voxel) && offset <= kLargestOffset,
      "volume '", name, "' says that its voxels start at byte ", offset, "; they start at byte ",
      first_voxel, " or later. The header is damaged: fetch the file again.");
  header.voxel_offset = static_cast<std::int64_t>(offset);
}

template <class Real>
void read_geometry(const HeaderBytes& bytes, const Layout& layout, const std::string& name,
                   NiftiHeader& header) {
  const auto pixdim = bytes.get_doubles<Real, 4>(layout.pixdim);
  header.qfac = pixdim[0] == -1 ? -1 : 1;
  // nibabel's header checks repair spacings in this way before anything reads them.
  for (std::size_t i = 0; i < 3; ++i)
    header.pixdim[i] = pixdim[i + 1] == 0 ? 1 : std::abs(pixdim[i + 1]);
  header.quaternion = bytes.get_doubles<Real, 3>(layout.quaternion);
  header.quaternion_offset = bytes.get_doubles<Real, 3>(layout.quaternion_offset);
  for (std::size_t row = 0; row < 3; ++row)
    header.sform[row] = bytes.get_doubles<Real, 4>(layout.srow + row * 4 * sizeof(Real));
  header.sform[3] = {0, 0, 0, 1};

  const double slope = static_cast<double>(bytes.get<Real>(layout.slope));
  const double intercept = static_cast<double>(bytes.get<Real>(layout.intercept));
  if (slope == 0 || !std::isfinite(slope)) return;
  TRIPHASE_CHECK(DataError, std::isfinite(intercept), "volume '", name, "' has scaling slope ",
                 slope, " with an intercept that is not finite. Repair its header.");
  header.slope = slope;
  header.intercept = intercept;
}

/// Codes that NIfTI does not define count as 0, as nibabel's header checks have it.
int known_code(int code) { return code >= 0 && code <= 5 ? code : 0; }

}  // namespace

NiftiHeader parse_nifti_header(std::span<const std::byte> bytes, const std::string& name,
                               const NiftiLimits& limits, NiftiLayout file_layout) {
  const Kind kind = check_kind(bytes, name, file_layout);
  const Layout& layout = kind.version == 1 ? kLayout1 : kLayout2;
  const HeaderBytes fields(bytes, kind.swapped);
  NiftiHeader header;
  header.version = kind.version;
  header.swapped = kind.swapped;

  const int type = fields.get<std::int16_t>(layout.datatype);
  header.bytes_per_voxel = bytes_of_type(type, name);
  header.type = static_cast<NiftiType>(type);
  const int bits = fields.get<std::int16_t>(layout.bitpix);
  TRIPHASE_CHECK(DataError, bits == 8 * header.bytes_per_voxel, "volume '", name, "' says ", bits,
                 " bits per voxel, its type ", type, " has ", 8 * header.bytes_per_voxel,
                 ". The header is damaged: fetch the file again.");
  read_shape(fields, layout, name, limits, header);
  read_offset(fields, layout, name, file_layout, header);
  if (kind.version == 1) {
    read_geometry<float>(fields, layout, name, header);
    header.qform_code = known_code(fields.get<std::int16_t>(layout.qform_code));
    header.sform_code = known_code(fields.get<std::int16_t>(layout.sform_code));
  } else {
    read_geometry<double>(fields, layout, name, header);
    header.qform_code = known_code(fields.get<std::int32_t>(layout.qform_code));
    header.sform_code = known_code(fields.get<std::int32_t>(layout.sform_code));
  }
  return header;
}

void check_nifti_extensions(std::span<const std::byte> bytes, const NiftiHeader& header,
                            const std::string& name) {
  const auto start =
      static_cast<std::int64_t>(header.version == 1 ? kLayout1.bytes : kLayout2.bytes);
  const std::int64_t end = header.voxel_offset;
  if (bytes[static_cast<std::size_t>(start)] == std::byte{0}) return;
  const HeaderBytes fields(bytes, header.swapped);
  std::int64_t offset = start + 4;
  while (end - offset >= 16) {
    const std::int64_t size = fields.get<std::int32_t>(static_cast<std::size_t>(offset));
    if (size == 0) return;  // padding up to the voxels
    TRIPHASE_CHECK(DataError, size >= 16 && size <= end - offset, "volume '", name,
                   "' has a header extension of ", size, " bytes at byte ", offset,
                   ", which does not fit before its voxels at byte ", end,
                   ". The header is damaged: fetch the file again.");
    offset += size;
  }
}

}  // namespace triphase::data
