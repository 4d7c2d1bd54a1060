// SPDX-License-Identifier: Apache-2.0
#include "data/dicom/dicom.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/random.hpp"
#include "data/affine.hpp"
#include "data/dicom/series_geometry.hpp"
#include "data/prepare.hpp"
#include "tests/data/cache_cohort.hpp"
#include "tests/support/golden.hpp"

#define TRIPHASE_NEEDS_DCMTK()                            \
  if (dicom_support().starts_with("none"))                \
  GTEST_SKIP() << "built without DCMTK: this case was NOT checked"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
using test::CacheCohort;
using test::expect_error;
using test::read_text;
using test::read_volume;
using test::TemporaryFolder;
using test::write_text;

constexpr const char* kPlanted = "PLANTED^ROSA";

fs::path series(const std::string& name) { return test::golden_folder() / "dicom" / name; }

/// A rotation, spacings and a step along the normal with some shear.
struct RandomSeries {
  explicit RandomSeries(std::uint64_t seed, double shear = 0) : random{71, seed} {
    Matrix3 noise{};
    for (auto& row : noise)
      for (double& number : row) number = random.uniform(-1, 1);
    const Matrix3 turn = *polar_rotation(noise);
    const auto count = 2 + random.below(30);
    const std::array<double, 2> spacing{random.uniform(0.3, 2), random.uniform(0.3, 2)};
    const double gap = random.uniform(0.5, 8);
    const Vector3 row{turn[0][0], turn[1][0], turn[2][0]};
    const Vector3 column{turn[0][1], turn[1][1], turn[2][1]};
    const Vector3 normal{row[1] * column[2] - row[2] * column[1], row[2] * column[0] - row[0] * column[2],
                         row[0] * column[1] - row[1] * column[0]};
    Vector3 origin{};
    for (std::size_t i = 0; i < 3; ++i) {
      origin[i] = random.uniform(-300, 300);
      step[i] = gap * (normal[i] + shear * column[i]);
    }
    for (std::uint64_t k = 0; k < count; ++k) {
      DicomSlice slice{.name = str("s", k)};
      for (std::size_t i = 0; i < 3; ++i) {
        slice.position_mm[i] = origin[i] + static_cast<double>(k) * step[i];
        slice.orientation[i] = row[i];
        slice.orientation[3 + i] = column[i];
      }
      slice.spacing_mm = spacing;
      slice.num_rows = 7;
      slice.num_columns = 9;
      slices.push_back(slice);
    }
  }
  KeyedRandom random;
  std::vector<DicomSlice> slices;  ///< in order
  Vector3 step{};
};

TEST(SeriesGeometry, EveryVoxelLiesWhereItsSliceSays) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    RandomSeries made(seed, seed % 3 == 0 ? 0.3 : 0);
    std::vector<DicomSlice> given = made.slices;
    for (std::size_t i = given.size() - 1; i > 0; --i) std::swap(given[i], given[made.random.below(i + 1)]);
    const SeriesGeometry geometry = series_geometry(given);
    ASSERT_EQ(geometry.shape, (Shape3{9, 7, std::ssize(given)}));
    for (std::size_t k = 0; k < given.size(); ++k) {
      const DicomSlice& slice = given[geometry.order[k]];
      EXPECT_EQ(slice.name, str("s", k));
      for (const auto& [column, row] : {std::pair{0.0, 0.0}, {8.0, 0.0}, {3.0, 6.0}}) {
        const Vector3 ras = apply(geometry.affine, {column, row, static_cast<double>(k)});
        for (std::size_t i = 0; i < 3; ++i) {
          const double lps = slice.position_mm[i] + slice.orientation[i] * slice.spacing_mm[1] * column +
                             slice.orientation[3 + i] * slice.spacing_mm[0] * row;
          EXPECT_NEAR((i < 2 ? -1 : 1) * ras[i], lps, 1e-9);
        }
      }
    }
  }
}

TEST(SeriesGeometry, RoundedPositionsAreTakenAndFaultsAreNamed) {
  const auto fault = [](const std::vector<DicomSlice>& slices, std::initializer_list<std::string> words) {
    expect_error<DataError>([&] { (void)series_geometry(slices); }, ExitCode::kBadData, words);
  };
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomSeries made(seed);
    while (made.slices.size() < 6) made = RandomSeries(seed += 1000);
    const double gap = std::sqrt(made.step[0] * made.step[0] + made.step[1] * made.step[1] + made.step[2] * made.step[2]);
    auto slices = made.slices;
    for (std::size_t i = 0; i < 3; ++i) slices[2].position_mm[i] += 0.004 * gap / std::sqrt(3);
    EXPECT_NO_THROW((void)series_geometry(slices));
    for (const std::size_t first : {std::size_t{0}, std::size_t{3}}) {  // a row's direction, then a column's, too long
      slices = made.slices;
      for (DicomSlice& slice : slices)
        for (std::size_t i = first; i < first + 3; ++i) slice.orientation[i] *= 1.01;
      fault(slices, {"'s0'", "length 1"});
    }
    slices = made.slices;
    slices[3].position_mm = slices[2].position_mm;
    fault(slices, {"'s2'", "'s3'", "same place"});
    slices = made.slices;
    slices.erase(slices.begin() + 2);
    fault(slices, {"1 slice is missing between slices 's1' and 's3'"});
    slices.erase(slices.begin() + 2);
    if (slices.size() > 4) fault(slices, {"2 slices are missing between slices 's1' and 's4'"});
    slices = made.slices;
    for (std::size_t k = 3; k < slices.size(); ++k)
      for (std::size_t i = 0; i < 3; ++i) slices[k].position_mm[i] += 0.3 * made.step[i];
    fault(slices, {"'s2' and 's3'", "one spacing"});
    slices = made.slices;
    for (std::size_t i = 0; i < 3; ++i) slices[3].position_mm[i] += 0.1 * gap * slices[3].orientation[i];
    fault(slices, {"off the line"});
    slices = made.slices;
    slices[1].position_mm[made.random.below(3)] = std::nan("");
    fault(slices, {"'s1'", "not finite"});
    slices = made.slices;
    slices[4].spacing_mm[made.random.below(2)] *= 1.5;
    fault(slices, {"'s4'", "pixel spacing", "'s0'"});
    slices = made.slices;
    slices[4].orientation[made.random.below(6)] += 0.2;
    fault(slices, {"'s4'"});
  }
  fault({}, {"0 slices"});
}

const std::vector<std::string> kSeries{"axial", "signed", "signed_12_bits", "bits_8", "slopes_differ", "oblique", "coronal",
                                       "feet_first", "tilted", "two_slices", "rle", "jpeg", "jpeg_process14", "jpegls",
                                       "big_endian", "implicit"};

TEST(Dicom, GoldenSeriesAreReadAsTheyWereMeant) {
  TRIPHASE_NEEDS_DCMTK();
  const test::Golden expected = test::load_golden("dicom/expected");
  EXPECT_EQ(expected.tensors().size(), 2 * kSeries.size());
  for (const std::string& name : kSeries) {
    SCOPED_TRACE(name);
    const Volume volume = read_dicom(series(name));
    const test::GoldenTensor& voxels = expected.at(name + ".voxels");
    const test::GoldenTensor& affine = expected.at(name + ".affine");
    ASSERT_EQ(std::vector<std::int64_t>(volume.shape.begin(), volume.shape.end()), voxels.shape);
    ASSERT_EQ(std::vector<double>(volume.voxels.begin(), volume.voxels.end()), voxels.values);
    for (std::size_t i = 0; i < 16; ++i)  // positions have six digits in the files
      EXPECT_NEAR(volume.affine[i / 4][i % 4], affine.values[i], 1e-3) << i;
  }
}

TEST(Dicom, TheSameScanAsNiftiIsPreparedToTheSameBytes) {
  TRIPHASE_NEEDS_DCMTK();
  const TemporaryFolder folder;
  for (const std::string name : {"axial", "coronal", "feet_first", "jpegls"}) {
    SCOPED_TRACE(name);
    write_nifti(folder / "scan.nii.gz", read_dicom(series(name)));
    for (const char* preset : {"merlin", "ct_clip"}) {
      PreprocessOptions options = preprocess_preset(preset);
      options.volume_shape = {9, 8, 7};
      const PreparedVolume from_nifti = prepare_scan(folder / "scan.nii.gz", options);
      const PreparedVolume from_dicom = prepare_scan(series(name), options);
      EXPECT_EQ(from_dicom.bytes, from_nifti.bytes);
      EXPECT_EQ(from_dicom.affine, from_nifti.affine);
    }
  }
}

TEST(Dicom, ACorrectionComesOnTopOfTheSeriesOwnNumbers) {
  TRIPHASE_NEEDS_DCMTK();
  const Volume plain = read_dicom(series("slopes_differ"));
  const Volume corrected = read_dicom(series("slopes_differ"), {}, {2, -100, {0, 0, 5}});
  for (std::size_t i = 0; i < plain.voxels.size(); ++i) EXPECT_EQ(corrected.voxels[i], 2 * plain.voxels[i] - 100);
  EXPECT_NEAR(column_norms(linear_part(corrected.affine))[2], 5, 1e-12);
  EXPECT_EQ(corrected.affine[0][0], plain.affine[0][0]);
}

TEST(Dicom, SeriesThatCannotBeReadAreRefusedByFileAndReasonWithoutNames) {
  TRIPHASE_NEEDS_DCMTK();
  const Json words = test::load_golden_json("dicom/hostile");
  EXPECT_GE(words.size(), 34U);
  for (const auto& [name, expected] : words.items()) {
    SCOPED_TRACE(name);
    try {
      (void)read_dicom(series("hostile/" + name));
      ADD_FAILURE() << "it was read";
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadData);
      const std::string what = error.what();
      for (const Json& word : expected)
        EXPECT_NE(what.find(word.get<std::string>()), std::string::npos) << word << " is missing in: " << what;
      EXPECT_NE(what.find("hostile/" + name), std::string::npos) << what;
      EXPECT_EQ(what.find(kPlanted), std::string::npos) << what;
    }
  }
  expect_error<DataError>([] { (void)read_dicom(series("axial"), {.max_voxels = 300}); }, ExitCode::kBadData, {"300 voxels"});
  expect_error<DataError>([] { (void)read_dicom(series("gone")); }, ExitCode::kMissingInput, {"gone"});
}

/// A copy of a golden series that a test may change.
void copy_series(const std::string& name, const fs::path& to) { fs::copy(series(name), to, fs::copy_options::recursive); }

TEST(Dicom, OtherFilesOfTheFolderArePassedOver) {
  TRIPHASE_NEEDS_DCMTK();
  const TemporaryFolder folder;
  copy_series("axial", folder / "s");
  write_text(folder / "s/DICOMDIR", std::string(128, '\0') + "DICM and so on");
  write_text(folder / "s/notes.txt", "what was seen");
  write_text(folder / "s/empty", "");
  fs::create_directory(folder / "s/below");
  fs::rename(folder / "s/0003.dcm", folder / "s/without_ending");
  EXPECT_EQ(read_dicom(folder / "s").voxels, read_dicom(series("axial")).voxels);
}

TEST(Dicom, AFileTooLargeForASliceIsNotRead) {
  TRIPHASE_NEEDS_DCMTK();
  const TemporaryFolder folder;
  copy_series("axial", folder / "s");
  write_text(folder / "s/large.dcm", read_text(folder / "s/0003.dcm"));
  fs::resize_file(folder / "s/large.dcm", (std::uintmax_t{256} << 20) + 1);  // takes no room on the disk
  expect_error<DataError>([&] { (void)read_dicom(folder / "s"); }, ExitCode::kBadData,
                          {"large.dcm", "268435457 bytes", "Is it several?"});
}

TEST(Dicom, SeveralSamplesAVoxelAreColours) {
  TRIPHASE_NEEDS_DCMTK();
  const TemporaryFolder folder;
  copy_series("axial", folder / "s");
  std::string slice = read_text(folder / "s/0003.dcm");
  const std::string samples("\x28\x00\x02\x00US\x02\x00\x01\x00", 10);  // (0028,0002) SamplesPerPixel = 1
  const std::size_t place = slice.find(samples);
  ASSERT_NE(place, std::string::npos);
  slice[place + 8] = 3;
  write_text(folder / "s/0003.dcm", slice);
  expect_error<DataError>([&] { (void)read_dicom(folder / "s"); }, ExitCode::kBadData, {"0003.dcm", "colours"});
}

TEST(DicomCache, SeriesAreCachedAloneBuiltAnewWhenASliceChangesAndLeaveNoNames) {
  TRIPHASE_NEEDS_DCMTK();
  CacheCohort cohort(4);  // shards of three
  copy_series("axial", cohort.folder() / "series");
  copy_series("hostile/missing", cohort.folder() / "broken");
  for (const auto& [row, image] : {std::pair{0, "series"}, {2, "broken"}}) {
    std::string& text = cohort.rows()[static_cast<std::size_t>(row)];
    const std::string scan = str("scan", row, ".nii.gz");
    text.replace(text.find(scan), scan.size(), image);
  }
  cohort.write_manifest();
  EXPECT_EQ(cohort.build(), 3);
  EXPECT_EQ(cohort.build(), 0);
  const auto voxels = read_volume(Cache(cohort.cache()), 0);
  {
    const Cache cache(cohort.cache());
    ASSERT_EQ(cache.left_out().size(), 1U);
    EXPECT_EQ(cache.left_out()[0].id, "id2");
    EXPECT_NE(cache.left_out()[0].reason.find("1 slice is missing"), std::string::npos) << cache.left_out()[0].reason;
  }
  for (const auto& [name, bytes] : test::files_in(cohort.cache())) EXPECT_EQ(bytes.find(kPlanted), std::string::npos) << name;
  EXPECT_NE(read_text(cohort.folder() / "series/0002.dcm").find(kPlanted), std::string::npos);

  std::string slice = read_text(cohort.folder() / "series/0002.dcm");
  for (std::size_t i = slice.size() - 239; i < slice.size(); i += 2)  // every voxel by 1024
    slice[i] = static_cast<char>(slice[i] ^ 4);
  write_text(cohort.folder() / "series/0002.dcm", slice);
  fs::last_write_time(cohort.folder() / "series/0002.dcm",
                      fs::last_write_time(cohort.folder() / "series/0002.dcm") + std::chrono::seconds(5));
  EXPECT_EQ(cohort.build(), 2) << "a slice that changed";
  EXPECT_NE(read_volume(Cache(cohort.cache()), 0), voxels);
}

}  // namespace
}  // namespace triphase::data
