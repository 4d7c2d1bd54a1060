// SPDX-License-Identifier: Apache-2.0
// Needs DCMTK. How slices make a volume is in series_geometry_test.cpp.
#include "data/dicom/dicom.hpp"

#include <algorithm>
#include <chrono>

#include "data/affine.hpp"
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
