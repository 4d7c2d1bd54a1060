// SPDX-License-Identifier: Apache-2.0
// Case by case against MONAI and torch; tests/reference/make_preprocess_parity.py made the goldens.
#include <algorithm>
#include <cmath>

#include "data/nifti.hpp"
#include "data/prepare.hpp"
#include "data/voxel_codec.hpp"
#include "tests/data/nifti_bytes.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::Golden;
using test::GoldenTensor;
using test::TemporaryFolder;

constexpr std::array<Shape3, 3> kOutputShapes{{{5, 4, 4}, {4, 5, 4}, {4, 4, 5}}};
constexpr std::size_t kOutputVoxels = 80;
/// Of the output range. What is asked for is 1e-5; float32 HU and MONAI's float32 window leave 2e-7.
constexpr double kFloatTolerance = 1e-6;
/// Half a step of uint16, and a little for the rounding of its product and sum in float32.
constexpr double kStorageTolerance = 1.0 / 131070 + 1e-7;

std::uint64_t scrambled(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t h = (index * 2654435761U + seed * 40503 + 12345) & 0xFFFFFFFFU;
  h ^= h >> 15;
  h = (h * 2246822519U) & 0xFFFFFFFFU;
  return h ^ (h >> 13);
}

template <class T>
void append(std::string& bytes, T value, bool swapped) {
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  if (swapped) std::reverse(raw, raw + sizeof(T));
  bytes.append(raw, sizeof(T));
}

/// The generator's stored_voxels().
void append_voxel(std::string& bytes, int type, bool swapped, std::uint64_t h) {
  const auto hu = static_cast<std::int64_t>((h >> 16) % 2600) - 1200;
  const double fraction = static_cast<double>(hu) + static_cast<double>(h & 0xFFU) / 256;
  switch (type) {
    case 2:
      return append(bytes, static_cast<std::uint8_t>(h >> 24), swapped);
    case 256:
      return append(bytes, static_cast<std::int8_t>(static_cast<int>(h >> 24) - 128), swapped);
    case 4:
      return append(bytes, static_cast<std::int16_t>(hu), swapped);
    case 8:
      return append(bytes, static_cast<std::int32_t>(hu), swapped);
    case 1024:
      return append(bytes, hu, swapped);
    case 512:
      return append(bytes, static_cast<std::uint16_t>(hu + 1200), swapped);
    case 768:
      return append(bytes, static_cast<std::uint32_t>(hu + 1200), swapped);
    case 1280:
      return append(bytes, static_cast<std::uint64_t>(hu + 1200), swapped);
    case 16:
      return append(bytes, static_cast<float>(fraction), swapped);
    default:
      return append(bytes, fraction, swapped);
  }
}

template <class T>
T header_field(const std::string& bytes, std::size_t offset, bool swapped) {
  std::array<char, sizeof(T)> raw{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), sizeof(T), raw.begin());
  if (swapped) std::reverse(raw.begin(), raw.end());
  return std::bit_cast<T>(raw);
}

/// All files of one NIfTI version with what is expected of them.
class Cases {
 public:
  Cases(const std::string& golden, const std::string& version)
      : golden_(test::load_golden(golden)),
        names_(test::load_golden_json(golden).at("names").at(version)),
        prefix_(version + ".") {}
  [[nodiscard]] std::size_t size() const { return names_.size(); }
  [[nodiscard]] std::string name(std::size_t i) const { return names_[i].get<std::string>(); }
  [[nodiscard]] const Shape3& output_shape(std::size_t i) const { return kOutputShapes[seed(i) % 3]; }
  /// @return expected voxels of case i, 80 of them
  [[nodiscard]] const double* expected(std::size_t i) const {
    return &tensor("expected").values[i * kOutputVoxels];
  }
  [[nodiscard]] const double* affine(std::size_t i) const { return &tensor("affine").values[i * 12]; }

  [[nodiscard]] std::string file(std::size_t i) const {
    const GoldenTensor& columns = tensor("columns");
    std::string bytes;
    for (const double byte : tensor("header").values) bytes += static_cast<char>(byte);
    for (std::size_t k = 0; k < columns.values.size(); ++k)
      bytes[static_cast<std::size_t>(columns.values[k])] =
          static_cast<char>(tensor("bytes").values[i * columns.values.size() + k]);
    const bool is_second = prefix_ == "nifti2.";
    const bool swapped =
        header_field<std::int32_t>(bytes, 0, false) != static_cast<std::int32_t>(bytes.size());
    const int type = header_field<std::int16_t>(bytes, is_second ? 12 : 70, swapped);
    std::uint64_t voxels = 1;
    for (std::size_t axis = 1; axis <= 3; ++axis)
      voxels *= static_cast<std::uint64_t>(
          is_second ? header_field<std::int64_t>(bytes, 16 + 8 * axis, swapped)
                    : header_field<std::int16_t>(bytes, 40 + 2 * axis, swapped));
    bytes.append(4, '\0');
    for (std::uint64_t v = 0; v < voxels; ++v)
      append_voxel(bytes, type, swapped, scrambled(seed(i), v));
    return bytes;
  }

 private:
  [[nodiscard]] const GoldenTensor& tensor(const std::string& name) const {
    return golden_.at(prefix_ + name);
  }
  [[nodiscard]] std::uint64_t seed(std::size_t i) const {
    return static_cast<std::uint64_t>(tensor("seed").values[i]);
  }
  Golden golden_;
  Json names_;
  std::string prefix_;
};

double worst_difference(std::span<const float> voxels, const double* expected) {
  double worst = 0;
  for (std::size_t i = 0; i < kOutputVoxels; ++i)
    worst = std::max(worst, std::abs(static_cast<double>(voxels[i]) - expected[i]));
  return worst;
}

/// Both ways to the voxels, and what a cache of each storage would give back.
void expect_case(const Cases& cases, std::size_t i, PreprocessOptions options,
                 const std::filesystem::path& path) {
  SCOPED_TRACE(cases.name(i));
  test::write_text(path, cases.file(i));
  options.volume_shape = cases.output_shape(i);
  const double range = options.output_range[1] - options.output_range[0];
  const Volume volume = preprocess(read_nifti(path), options);
  ASSERT_EQ(volume.voxels.size(), kOutputVoxels);
  EXPECT_LE(worst_difference(volume.voxels, cases.expected(i)), kFloatTolerance * range);
  for (const Storage storage : {Storage::kFloat32, Storage::kUint16}) {
    options.storage = storage;
    const PreparedVolume prepared = prepare_nifti(path, options);
    std::vector<float> decoded(kOutputVoxels);
    decode_voxels(prepared.bytes, codec_for(options), decoded);
    const double more = storage == Storage::kUint16 ? kStorageTolerance : 0;
    EXPECT_LE(worst_difference(decoded, cases.expected(i)), (kFloatTolerance + more) * range)
        << storage_name(storage);
    EXPECT_EQ(prepared.affine, volume.affine);
  }
}

TEST(Parity, SevenHundredFilesComeOutAsFromMonai) {
  const TemporaryFolder folder;
  std::size_t num_cases = 0;
  for (const char* version : {"nifti1", "nifti2"}) {
    const Cases cases("preprocess/parity", version);
    num_cases += cases.size();
    for (std::size_t i = 0; i < cases.size(); ++i) {
      expect_case(cases, i, preprocess_preset("merlin"), folder / "case.nii");
      PreprocessOptions options;
      options.volume_shape = cases.output_shape(i);
      const Affine affine = preprocess(read_nifti(folder / "case.nii"), options).affine;
      for (std::size_t cell = 0; cell < 12; ++cell)
        EXPECT_NEAR(affine[cell / 4][cell % 4], cases.affine(i)[cell], 1e-9)
            << cases.name(i) << ", affine cell " << cell;
    }
  }
  EXPECT_GE(num_cases, 700U);
}

TEST(Parity, CtClipsRuleComesOutAsFromTorch) {
  const TemporaryFolder folder;
  const Cases cases("preprocess/interpolate", "nifti1");
  EXPECT_GE(cases.size(), 70U);
  for (std::size_t i = 0; i < cases.size(); ++i)
    expect_case(cases, i, preprocess_preset("ct_clip"), folder / "case.nii");
}

}  // namespace
}  // namespace triphase::data
