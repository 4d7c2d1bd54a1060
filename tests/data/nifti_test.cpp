// SPDX-License-Identifier: Apache-2.0
#include "data/nifti.hpp"

#include <limits>

#include "base/random.hpp"
#include "data/gunzip.hpp"
#include "tests/data/nifti_bytes.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::expect_error;
using test::nifti_bytes;
using test::put;
using test::TemporaryFolder;
using test::write_text;

std::string gzipped(const std::string& bytes) { return gzip(std::as_bytes(std::span(bytes)), 6); }

Volume random_volume(const Shape3& shape, std::uint64_t seed) {
  Volume volume;
  volume.shape = shape;
  volume.affine = {{{-0.75, 0, 0, 10}, {0, 0, 2.5, -20}, {0, 1.25, 0, 30.5}, {0, 0, 0, 1}}};
  KeyedRandom random{seed};
  for (std::int64_t i = 0; i < volume.size(); ++i)
    volume.voxels.push_back(static_cast<float>(random.below(4000)) - 1000);
  return volume;
}

/// Expects that reading a file of these bytes is refused, with exit code 65 and the file's name.
void expect_refused(const std::string& bytes, const std::string& word) {
  const TemporaryFolder folder;
  const auto path = folder / "scan.nii";
  write_text(path, bytes);
  expect_error<DataError>([&] { (void)read_nifti(path); }, ExitCode::kBadData,
                          {path.string(), word});
}

TEST(Nifti, GoldenFilesAreReadAsNibabelAndMonaiReadThem) {
  const test::Golden golden = test::load_golden("preprocess/files");
  const Json cases = test::load_golden_json("preprocess/files").at("cases");
  ASSERT_GT(cases.size(), 30U);
  for (const auto& [name, entry] : cases.items()) {
    SCOPED_TRACE(name);
    const Volume volume = read_nifti(test::golden_folder() / entry.at("file").get<std::string>());
    const test::GoldenTensor& raw = golden.at(name + ".raw");
    ASSERT_EQ(std::vector<std::int64_t>(volume.shape.begin(), volume.shape.end()), raw.shape);
    for (std::size_t i = 0; i < raw.values.size(); ++i)
      ASSERT_EQ(static_cast<double>(volume.voxels[i]), raw.values[i]) << "voxel " << i;
    const test::GoldenTensor& affine = golden.at(name + ".affine");
    for (std::size_t i = 0; i < 16;
         ++i)  // a rotation from a quaternion: a few roundings of values near 1
      EXPECT_NEAR(volume.affine[i / 4][i % 4], affine.values[i], 1e-12) << "cell " << i;
  }
}

TEST(Nifti, WrittenVolumesAreReadBackUnchanged) {
  const TemporaryFolder folder;
  for (const Shape3& shape :
       {Shape3{1, 1, 1}, Shape3{1, 40, 3}, Shape3{37, 33, 35}, Shape3{64, 2, 65}})
    for (const char* name : {"a.nii", "a.nii.gz"}) {
      const Volume volume = random_volume(shape, 3);
      write_nifti(folder / name, volume);
      const Volume back = read_nifti(folder / name);
      EXPECT_EQ(back.shape, volume.shape);
      EXPECT_EQ(back.voxels, volume.voxels);
      EXPECT_EQ(back.affine, volume.affine);
    }
}

TEST(Nifti, WritingRoundsHalfToEvenAndClampsToInt16) {
  const TemporaryFolder folder;
  Volume volume = random_volume({5, 1, 1}, 0);
  volume.voxels = {0.5F, 1.5F, -2.6F, 40000.0F, -1e9F};
  write_nifti(folder / "a.nii", volume);
  EXPECT_EQ(read_nifti(folder / "a.nii").voxels, (std::vector<float>{0, 2, -3, 32767, -32768}));
}

TEST(Nifti, WritingIsDeterministicAndRefusesVoxelsThatAreNotFinite) {
  const TemporaryFolder folder;
  Volume volume = random_volume({9, 8, 7}, 5);
  write_nifti(folder / "a.nii.gz", volume);
  write_nifti(folder / "b.nii.gz", volume);
  EXPECT_EQ(test::read_text(folder / "a.nii.gz"), test::read_text(folder / "b.nii.gz"));
  volume.at(1, 2, 3) = std::numeric_limits<float>::quiet_NaN();
  expect_error<InternalError>([&] { write_nifti(folder / "c.nii", volume); }, ExitCode::kInternal,
                              {"voxel (1, 2, 3)"});
  EXPECT_FALSE(std::filesystem::exists(folder / "c.nii"));
}

TEST(Nifti, FileOrderIsXFastest) {
  const TemporaryFolder folder;
  write_text(folder / "a.nii", nifti_bytes({4, 3, 2}));
  const Volume volume = read_nifti(folder / "a.nii");
  for (std::int64_t x = 0; x < 4; ++x)
    for (std::int64_t y = 0; y < 3; ++y)
      for (std::int64_t z = 0; z < 2; ++z)
        EXPECT_EQ(volume.at(x, y, z), static_cast<float>(x + 4 * (y + 3 * z)));
}

TEST(Nifti, AMissingFileIsNamed) {
  expect_error<DataError>([] { (void)read_nifti("/nowhere/scan.nii.gz"); }, ExitCode::kMissingInput,
                          {"/nowhere/scan.nii.gz"});
}

TEST(Nifti, EveryTruncationOfAPlainFileIsCalledCutShort) {
  const std::string bytes = nifti_bytes({4, 3, 2});
  for (std::size_t length = 1; length < bytes.size(); ++length)
    expect_refused(bytes.substr(0, length), "cut short");
}

TEST(Nifti, EveryTruncationOfACompressedFileIsCalledCutShort) {
  const std::string bytes = gzipped(nifti_bytes({7, 6, 5}));
  for (std::size_t length = 2; length < bytes.size(); ++length)
    expect_refused(bytes.substr(0, length), "cut short");
}

TEST(Nifti, EveryDamagedByteOfACompressedBodyIsNoticed) {
  const std::string bytes = gzipped(nifti_bytes({7, 6, 5}));
  const TemporaryFolder folder;
  for (std::size_t i = 10; i < bytes.size(); ++i) {  // the gzip header's own fields may differ
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x20);
    write_text(folder / "a.nii.gz", damaged);
    EXPECT_THROW((void)read_nifti(folder / "a.nii.gz"), DataError) << "byte " << i;
  }
}

TEST(Nifti, SeveralGzipMembersAndTrailingBytesAreRead) {
  const std::string plain = nifti_bytes({7, 6, 5});
  const TemporaryFolder folder;
  write_text(folder / "plain.nii", plain);
  const Volume expected = read_nifti(folder / "plain.nii");
  for (const std::size_t cut : {std::size_t{100}, std::size_t{352}, std::size_t{400}}) {
    write_text(folder / "two.nii.gz", gzipped(plain.substr(0, cut)) + gzipped(plain.substr(cut)));
    EXPECT_EQ(read_nifti(folder / "two.nii.gz").voxels, expected.voxels) << cut;
  }
  write_text(folder / "more.nii.gz", gzipped(plain + std::string(100000, 'x')));
  EXPECT_EQ(read_nifti(folder / "more.nii.gz").voxels, expected.voxels);
  write_text(folder / "padded.nii.gz", gzipped(plain) + std::string(512, '\0'));
  EXPECT_EQ(read_nifti(folder / "padded.nii.gz").voxels, expected.voxels);
}

TEST(Nifti, ASmallFileThatPromisesMuchIsRefusedBeforeMemoryIsTaken) {
  std::string bytes = nifti_bytes({4, 3, 2});
  for (std::size_t i = 0; i < 3; ++i)
    put(bytes, 42 + 2 * i, std::int16_t{1290});  // 2^31 voxels nearly
  expect_refused(bytes, "cut short");
  expect_refused(gzipped(bytes), "cut short");
  for (std::size_t i = 0; i < 3; ++i) put(bytes, 42 + 2 * i, std::int16_t{32767});
  expect_refused(bytes, "more than");
}

TEST(Nifti, HeadersThatAskForWhatIsNotReadAreRefused) {
  struct Case {
    const char* word;
    std::function<void(std::string&)> change;
  };
  const std::vector<Case> cases{
      {"not NIfTI", [](std::string& b) { put(b, 0, std::int32_t{349}); }},
      {"not NIfTI", [](std::string& b) { put(b, 344, 'x'); }},
      {".hdr/.img pair",
       [](std::string& b) {
         put(b, 345, 'i');
         put(b, 344, 'n');
       }},
      {"declares 0 axes", [](std::string& b) { put(b, 40, std::int16_t{0}); }},
      {"declares 8 axes", [](std::string& b) { put(b, 40, std::int16_t{8}); }},
      {"needs three", [](std::string& b) { put(b, 40, std::int16_t{2}); }},
      {"length 0 along axis 2", [](std::string& b) { put(b, 44, std::int16_t{0}); }},
      {"length -5 along axis 3", [](std::string& b) { put(b, 46, std::int16_t{-5}); }},
      {"Split the series",
       [](std::string& b) {
         put(b, 40, std::int16_t{4});
         put(b, 48, std::int16_t{2});
       }},
      {"type 128", [](std::string& b) { put(b, 70, std::int16_t{128}); }},
      {"type 32", [](std::string& b) { put(b, 70, std::int16_t{32}); }},
      {"bits per voxel", [](std::string& b) { put(b, 72, std::int16_t{8}); }},
      {"no whole number", [](std::string& b) { put(b, 108, 352.5F); }},
      {"no whole number",
       [](std::string& b) { put(b, 108, std::numeric_limits<float>::quiet_NaN()); }},
      {"start at byte 348", [](std::string& b) { put(b, 108, 348.0F); }},
      {"cut short", [](std::string& b) { put(b, 108, 1e9F); }},
      {"start at byte", [](std::string& b) { put(b, 108, 1e30F); }},
      {"intercept that is not finite",
       [](std::string& b) { put(b, 116, std::numeric_limits<float>::infinity()); }},
      {"affine that is not finite",
       [](std::string& b) { put(b, 292, std::numeric_limits<float>::quiet_NaN()); }},
      {"longer than 1",
       [](std::string& b) {
         put(b, 252, std::int16_t{1});
         put(b, 254, std::int16_t{0});
         put(b, 256, 2.0F);
       }},
      {"extension of 99999",
       [](std::string& b) {
         put(b, 108, 384.0F);
         b.insert(352, 32, '\0');
         put(b, 348, '\1');
         put(b, 352, std::int32_t{99999});
       }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.word);
    std::string bytes = nifti_bytes({4, 3, 2});
    c.change(bytes);
    expect_refused(bytes, c.word);
  }
}

TEST(Nifti, TheFirstVoxelThatIsNotFiniteIsNamed) {
  std::string bytes = nifti_bytes({4, 3, 2}).substr(0, 352);
  put(bytes, 70, std::int16_t{16});
  put(bytes, 72, std::int16_t{32});
  for (std::size_t i = 0; i < 24; ++i) {
    bytes.resize(bytes.size() + 4);
    const bool bad = i == 4 * (1 + 3) + 2 || i == 23;  // (2, 1, 1) and (3, 2, 1)
    put(bytes, bytes.size() - 4, bad ? std::numeric_limits<float>::infinity() : 1.0F);
  }
  expect_refused(bytes, "2 voxels that are not finite, the first at (2, 1, 1)");
}

TEST(Nifti, ALongSliceOfEmptyTextIsNoVolume) {
  expect_refused(std::string(5000, ' '), "not NIfTI");
  expect_refused(std::string(5000, '\0'), "not NIfTI");
}

/// Bytes changed at random: read or refused with DataError, never anything else.
TEST(NiftiFuzz, MutatedHeadersAreReadOrRefused) {
  const std::string valid = nifti_bytes({6, 5, 4});
  const TemporaryFolder folder;
  const NiftiLimits limits{.max_voxels = 1 << 16};
  std::int64_t num_read = 0;
  std::int64_t num_refused = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    KeyedRandom random{7, seed};
    std::string bytes = valid;
    const std::uint64_t changes = 1 + random.below(6);
    for (std::uint64_t i = 0; i < changes; ++i) {
      // Half of the changes go where sizes, types and offsets are.
      const std::uint64_t place = random.chance(0.5) ? 40 + random.below(84) : random.below(352);
      bytes[place] = static_cast<char>(random.bits());
    }
    if (random.chance(0.1)) bytes.resize(random.below(bytes.size()) + 1);
    write_text(folder / "a.nii", random.chance(0.3) ? gzipped(bytes) : bytes);
    try {
      const Volume volume = read_nifti(folder / "a.nii", limits);
      ASSERT_EQ(static_cast<std::int64_t>(volume.voxels.size()), volume.size());
      ++num_read;
    } catch (const DataError& error) {
      ASSERT_EQ(error.exit_code(), ExitCode::kBadData) << error.what();
      ++num_refused;
    }
  }
  EXPECT_GT(num_read, 200);
  EXPECT_GT(num_refused, 200);
}

TEST(NiftiFuzz, MutatedGzipStreamsAreReadOrRefused) {
  const std::string valid = gzipped(nifti_bytes({6, 5, 4}));
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    KeyedRandom random{8, seed};
    std::string bytes = valid;
    const std::uint64_t changes = 1 + random.below(3);
    for (std::uint64_t i = 0; i < changes; ++i)
      bytes[random.below(bytes.size())] = static_cast<char>(random.bits());
    write_text(folder / "a.nii.gz", bytes);
    try {
      (void)read_nifti(folder / "a.nii.gz", {.max_voxels = 1 << 16});
    } catch (const DataError& error) {
      ASSERT_EQ(error.exit_code(), ExitCode::kBadData) << error.what();
    }
  }
}

}  // namespace
}  // namespace triphase::data
