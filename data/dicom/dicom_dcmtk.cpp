// SPDX-License-Identifier: Apache-2.0
#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmdata/dcrledrg.h>
#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/dcmjpls/djdecode.h>
#include <dcmtk/oflog/oflog.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/affine.hpp"
#include "data/dicom/dicom.hpp"
#include "data/dicom/series_geometry.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxFileBytes = std::int64_t{256} << 20;
constexpr std::int64_t kMaxSliceVoxels = std::int64_t{1} << 26;  // 8192 x 8192
/// Items of sequences in one file. DCMTK reads them by recursion, so that they bound its stack; CT has a few dozen.
constexpr std::int64_t kMaxItems = 500;

/// Decoders are known to DCMTK for as long as the process lives, and its log, which quotes patients' tags, is silent.
void set_up_dcmtk() {
  static std::once_flag once;
  std::call_once(once, [] {
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    DJDecoderRegistration::registerCodecs();
    DJLSDecoderRegistration::registerCodecs();
    DcmRLEDecoderRegistration::registerCodecs();
  });
}

[[noreturn]] void refuse(const fs::path& file, const std::string& what) {
  throw DataError(str("slice '", file.filename().string(), "' ", what));
}

bool has_dicom_mark(std::span<const std::byte> bytes) {
  return bytes.size() >= 132 && std::memcmp(bytes.data() + 128, "DICM", 4) == 0;
}

std::int64_t count_of(std::string_view text, std::string_view word) {
  std::int64_t count = 0;
  for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + word.size())) ++count;
  return count;
}

/// @return false for a file that is passed over
bool is_slice(const fs::path& path) {
  if (path.filename() == "DICOMDIR") return false;
  const auto size = static_cast<std::int64_t>(fs::file_size(path));
  if (size > kMaxFileBytes) refuse(path, str("has ", size, " bytes, more than a slice of CT. Is it several?"));
  const bool is_named = path.extension() == ".dcm";
  if (size < 132) {
    if (is_named) refuse(path, "is cut short: it is smaller than a DICOM header. Fetch the file again.");
    return false;
  }
  const MappedFile file(path);
  if (!has_dicom_mark(file.bytes())) {
    if (is_named) refuse(path, "is no DICOM file: there is no 'DICM' at byte 128. Export the series again.");
    return false;
  }
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  using namespace std::string_view_literals;
  if (count_of(text, "\xFE\xFF\x00\xE0"sv) + count_of(text, "\xFF\xFE\xE0\x00"sv) > kMaxItems)
    refuse(path, str("holds more than ", kMaxItems, " items of sequences, which no slice of CT does."));
  return true;
}

/// One file, its header read; voxels are read when they are asked for.
class SliceFile {
 public:
  explicit SliceFile(const fs::path& path) : path_(path) {
    const OFCondition read = format_.loadFile(path.c_str(), EXS_Unknown, EGL_noChange, /*maxReadLength=*/4096);
    if (read.bad()) refuse(path_, str("is damaged (", read.text(), "). Fetch the file again."));
    check_transfer_syntax();
    check_kind();
    slice_.name = path_.filename().string();
    slice_.num_rows = whole(DCM_Rows, "Rows");
    slice_.num_columns = whole(DCM_Columns, "Columns");
    if (slice_.num_rows < 1 || slice_.num_columns < 1 || slice_.num_rows * slice_.num_columns > kMaxSliceVoxels)
      refuse(path_, str("has ", slice_.num_rows, " x ", slice_.num_columns, " voxels, which no slice of CT does."));
    slice_.position_mm = numbers<3>(DCM_ImagePositionPatient, "ImagePositionPatient");
    slice_.orientation = numbers<6>(DCM_ImageOrientationPatient, "ImageOrientationPatient");
    slice_.spacing_mm = numbers<2>(DCM_PixelSpacing, "PixelSpacing");
    slope_ = numbers<1>(DCM_RescaleSlope, "RescaleSlope")[0];
    intercept_ = numbers<1>(DCM_RescaleIntercept, "RescaleIntercept")[0];
    if (!std::isfinite(slope_) || slope_ == 0 || !std::isfinite(intercept_))
      refuse(path_, str("is rescaled by ", slope_, " and ", intercept_, ", which gives no HU."));
    series_ = text(DCM_SeriesInstanceUID, "SeriesInstanceUID");
  }

  [[nodiscard]] const DicomSlice& slice() const { return slice_; }
  [[nodiscard]] const std::string& series() const { return series_; }
  [[nodiscard]] const fs::path& path() const { return path_; }

  /// @param put column, row, HU
  template <class Put>
  void read_voxels(const ScanCorrection& correction, Put&& put) {
    DcmDataset& data = *format_.getDataset();
    const OFCondition decoded = data.chooseRepresentation(EXS_LittleEndianExplicit, nullptr);
    if (decoded.bad()) refuse(path_, str("holds voxels that cannot be decoded (", decoded.text(), "). Fetch the file again."));
    const std::size_t num_voxels = static_cast<std::size_t>(slice_.num_rows * slice_.num_columns);
    unsigned long found = 0;
    const Uint8* bytes = nullptr;
    const Uint16* words = nullptr;
    const OFCondition got = bits_allocated_ == 8 ? data.findAndGetUint8Array(DCM_PixelData, bytes, &found)
                                                 : data.findAndGetUint16Array(DCM_PixelData, words, &found);
    // A row of bytes of odd length is filled up with one.
    const bool is_whole = found == num_voxels || (bits_allocated_ == 8 && num_voxels % 2 == 1 && found == num_voxels + 1);
    if (got.bad() || !is_whole)
      refuse(path_, str("declares ", num_voxels, " voxels and holds ", got.bad() ? 0 : found, ". Fetch the file again."));
    const double slope = correction.hu_slope * slope_;
    const double intercept = correction.hu_slope * intercept_ + correction.hu_intercept;
    const int unused_bits = 32 - bits_stored_;
    std::size_t at = 0;
    for (std::int64_t row = 0; row < slice_.num_rows; ++row)
      for (std::int64_t column = 0; column < slice_.num_columns; ++column, ++at) {
        const std::uint16_t given = bytes != nullptr ? bytes[at] : words[at];
        const std::uint32_t stored = std::uint32_t{given} << unused_bits;
        const auto value = is_signed_ ? static_cast<double>(static_cast<std::int32_t>(stored) >> unused_bits)
                                      : static_cast<double>(stored >> unused_bits);
        put(column, row, static_cast<float>(slope * value + intercept));
      }
    format_.clear();  // a series' voxels need not be held twice
  }

 private:
  void check_transfer_syntax() {
    const DcmXfer syntax(format_.getDataset()->getOriginalXfer());
    switch (syntax.getXfer()) {
      case EXS_LittleEndianImplicit:
      case EXS_LittleEndianExplicit:
      case EXS_BigEndianExplicit:
      case EXS_RLELossless:
      case EXS_JPEGProcess14:
      case EXS_JPEGProcess14SV1:
      case EXS_JPEGLSLossless: return;
      default:
        refuse(path_, str("is stored as '", syntax.getXferName(),
                          "', which is not read here. Convert the series without loss (gdcmconv --raw, dcmdjpeg), or to NIfTI."));
    }
  }

  void check_kind() {
    if (const std::string modality = text(DCM_Modality, "Modality"); modality != "CT")
      refuse(path_, "is not of modality CT. Take a series of CT.");
    if (format_.getDataset()->tagExists(DCM_NumberOfFrames) && text(DCM_NumberOfFrames, "NumberOfFrames") != "1")
      refuse(path_, "holds several frames, which are not read here. Convert the series to NIfTI, or to one file a slice.");
    if (whole(DCM_SamplesPerPixel, "SamplesPerPixel") != 1 ||
        text(DCM_PhotometricInterpretation, "PhotometricInterpretation") != "MONOCHROME2")
      refuse(path_, "holds colours or an inverted scale in place of HU. Take the series itself, not pictures of it.");
    bits_allocated_ = static_cast<int>(whole(DCM_BitsAllocated, "BitsAllocated"));
    bits_stored_ = static_cast<int>(whole(DCM_BitsStored, "BitsStored"));
    if ((bits_allocated_ != 8 && bits_allocated_ != 16) || bits_stored_ < 1 || bits_stored_ > bits_allocated_ ||
        whole(DCM_HighBit, "HighBit") != bits_stored_ - 1)
      refuse(path_, str("stores ", bits_stored_, " of ", bits_allocated_, " bits in a way that CT does not."));
    is_signed_ = whole(DCM_PixelRepresentation, "PixelRepresentation") == 1;
  }

  [[nodiscard]] std::int64_t whole(const DcmTagKey& tag, const char* name) {
    Uint16 value = 0;
    if (format_.getDataset()->findAndGetUint16(tag, value).bad()) refuse_without(name);
    return value;
  }

  [[nodiscard]] std::string text(const DcmTagKey& tag, const char* name) {
    OFString value;
    if (format_.getDataset()->findAndGetOFString(tag, value).bad() || value.empty()) refuse_without(name);
    return value.c_str();
  }

  template <std::size_t N>
  [[nodiscard]] std::array<double, N> numbers(const DcmTagKey& tag, const char* name) {
    std::array<double, N> values{};
    for (std::size_t i = 0; i < N; ++i)
      if (format_.getDataset()->findAndGetFloat64(tag, values[i], static_cast<unsigned long>(i)).bad()) refuse_without(name);
    return values;
  }

  [[noreturn]] void refuse_without(const char* name) const {
    refuse(path_, str("has no ", name, ", or one that cannot be read. A CT slice needs it: export the series again."));
  }

  fs::path path_;
  DcmFileFormat format_;
  DicomSlice slice_;
  std::string series_;
  int bits_allocated_ = 16, bits_stored_ = 16;
  bool is_signed_ = false;
  double slope_ = 1, intercept_ = 0;
};

std::vector<std::unique_ptr<SliceFile>> open_series(const fs::path& folder, const NiftiLimits& limits) {
  std::vector<std::unique_ptr<SliceFile>> files;
  std::int64_t num_voxels = 0;
  for (const fs::path& path : files_of_series(folder)) {
    if (!is_slice(path)) continue;
    files.push_back(std::make_unique<SliceFile>(path));
    if (files.back()->series() != files.front()->series())
      refuse(path, str("is of another series than '", files.front()->slice().name, "'. Keep one series to a folder."));
    num_voxels += files.back()->slice().num_rows * files.back()->slice().num_columns;
    if (num_voxels > limits.max_voxels)
      throw DataError(str("the series has more than ", limits.max_voxels, " voxels, the largest that is read. Drop or resample it."));
  }
  return files;
}

}  // namespace

Volume read_dicom(const fs::path& folder, const NiftiLimits& limits, const ScanCorrection& correction) {
  set_up_dcmtk();
  try {
    const auto files = open_series(folder, limits);
    std::vector<DicomSlice> slices;
    for (const auto& file : files) slices.push_back(file->slice());
    const SeriesGeometry geometry = series_geometry(slices);
    Volume volume;
    volume.shape = geometry.shape;
    volume.affine = corrected_affine(geometry.affine, correction);
    volume.voxels.resize(static_cast<std::size_t>(volume.size()));
    for (std::size_t k = 0; k < files.size(); ++k)
      files[geometry.order[k]]->read_voxels(correction, [&](std::int64_t column, std::int64_t row, float hu) {
        volume.at(column, row, static_cast<std::int64_t>(k)) = hu;
      });
    return volume;
  } catch (DataError& error) {
    error.add_context(str("in series '", folder.string(), "'"));
    throw;
  }
}

std::string dicom_support() { return "DCMTK " OFFIS_DCMTK_VERSION_STRING; }

}  // namespace triphase::data
