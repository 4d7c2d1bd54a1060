// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/random.hpp"
#include "data/affine.hpp"
#include "data/prepare_kernel.hpp"
#include "data/voxel_codec.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::TemporaryFolder;

/// What prepare_nifti() is short for.
std::vector<std::byte> one_by_one(const std::filesystem::path& path,
                                  const PreprocessOptions& options) {
  return encode_voxels(preprocess(read_nifti(path), options).voxels, codec_for(options));
}

std::vector<PreprocessOptions> many_options(const Shape3& shape) {
  std::vector<PreprocessOptions> all;
  for (const char* preset : {"merlin", "ct_clip"})
    for (const Storage storage : {Storage::kUint16, Storage::kFloat16, Storage::kFloat32})
      for (const double padding : {0.0, -0.25}) {
        PreprocessOptions options = preprocess_preset(preset);
        options.volume_shape = shape;
        options.storage = storage;
        options.output_range = {-0.5, 1.5};
        options.padding = padding;
        all.push_back(options);
      }
  return all;
}

TEST(Prepare, EveryGoldenFileGivesTheSameBytesAsStepByStep) {
  int num_files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(test::golden_folder() / "nifti")) {
    SCOPED_TRACE(entry.path().string());
    ++num_files;
    for (const PreprocessOptions& options : many_options({9, 8, 7})) {
      const PreparedVolume prepared = prepare_nifti(entry.path(), options);
      ASSERT_EQ(prepared.bytes, one_by_one(entry.path(), options));
      EXPECT_EQ(prepared.affine, preprocess(read_nifti(entry.path()), options).affine);
    }
  }
  EXPECT_GE(num_files, 40);
}

/// Larger than a block of planes and a tile of lines, flipped along each axis in turn.
TEST(Prepare, LargeScansGiveTheSameBytesAsStepByStep) {
  const TemporaryFolder folder;
  for (unsigned flips = 0; flips < 8; ++flips) {
    SCOPED_TRACE(flips);
    KeyedRandom random{31, flips};
    Volume scan;
    scan.shape = {41 + static_cast<std::int64_t>(flips), 37, 50};
    const auto sign = [&](unsigned axis) { return (flips >> axis) & 1U ? -1.0 : 1.0; };
    scan.affine = {{{0.9 * sign(0), 0, 0, -4}, {0, 1.3 * sign(1), 0, 5}, {0, 0, 2.1 * sign(2), 6},
                    {0, 0, 0, 1}}};
    for (std::int64_t i = 0; i < scan.size(); ++i)
      scan.voxels.push_back(static_cast<float>(random.below(3000)) - 1400);
    write_nifti(folder / "scan.nii.gz", scan);
    for (PreprocessOptions options : many_options({30, 45, 90})) {
      options.spacing_mm = {1.1, 0.9, 0.8};
      ASSERT_EQ(prepare_nifti(folder / "scan.nii.gz", options).bytes,
                one_by_one(folder / "scan.nii.gz", options));
    }
  }
}

TEST(Prepare, EveryProcessorsKernelGivesTheSameBits) {
  constexpr std::size_t kCount = 203;
  KeyedRandom random{32};
  std::vector<float> row_low, row_high;
  std::vector<std::int32_t> low, high;
  std::vector<double> weight;
  for (std::size_t i = 0; i < kCount; ++i) {
    row_low.push_back(static_cast<float>(random.uniform(-1500, 3000)));
    row_high.push_back(static_cast<float>(random.uniform(-1500, 3000)));
    low.push_back(static_cast<std::int32_t>(random.below(kCount)));
    high.push_back(static_cast<std::int32_t>(random.below(kCount)));
    weight.push_back(random.uniform(0, 1));
  }
  struct Lines {
    std::vector<double> across = std::vector<double>(kCount);
    std::vector<float> between = std::vector<float>(kCount);
    std::vector<std::uint16_t> steps = std::vector<std::uint16_t>(kCount);
  };
  const auto run = [&](const PrepareKernel& kernel) {
    Lines lines;
    std::vector<double> other(kCount);
    kernel.across({row_low.data(), row_high.data(), 0.3, low.data(), high.data(), weight.data(),
                   static_cast<std::int64_t>(kCount)},
                  lines.across.data());
    kernel.across({row_high.data(), row_low.data(), 0.7, high.data(), low.data(), weight.data(),
                   static_cast<std::int64_t>(kCount)},
                  other.data());
    kernel.between(lines.across.data(), other.data(), 0.41, {-1000, 2000, -0.1F, 0.9F, 1},
                   static_cast<std::int64_t>(kCount), lines.between.data());
    kernel.to_uint16(lines.between.data(), -0.1, 1.0 / 65535, static_cast<std::int64_t>(kCount),
                     lines.steps.data());
    return lines;
  };
  int count = 0;
  const PrepareKernel* const* kernels = all_prepare_kernels(count);
  ASSERT_GE(count, 1);
  const Lines expected = run(*kernels[count - 1]);
  EXPECT_GT(std::count(expected.steps.begin(), expected.steps.end(), 65535), 0);
  for (int k = 0; k < count; ++k) {
    if (!kernels[k]->is_usable()) continue;
    SCOPED_TRACE(kernels[k]->name);
    const Lines lines = run(*kernels[k]);
    EXPECT_EQ(lines.across, expected.across);
    EXPECT_EQ(lines.between, expected.between);
    EXPECT_EQ(lines.steps, expected.steps);
  }
}

TEST(Prepare, HalvesRoundToEvenAsInTheCodec) {
  const VoxelCodec codec{Storage::kUint16, 1, 0};
  const std::vector<float> values{0.5F, 1.5F, 2.5F, -3, 65534.5F, 65535.5F, 1e9F};
  std::vector<std::uint16_t> steps(values.size());
  prepare_kernel().to_uint16(values.data(), 0, 1, static_cast<std::int64_t>(values.size()),
                             steps.data());
  EXPECT_EQ(steps, (std::vector<std::uint16_t>{0, 2, 2, 0, 65534, 65535, 65535}));
  const std::vector<std::byte> bytes = encode_voxels(values, codec);
  EXPECT_EQ(std::memcmp(bytes.data(), steps.data(), bytes.size()), 0);
}

/// A cache's identity: what earlier builds wrote must be found again.
TEST(PreprocessSpecification, OfTheOldPresetsIsWhatItAlwaysWas) {
  EXPECT_EQ(preprocess_spec(preprocess_preset("merlin")),
            R"({"algorithm":"monai_spacing","algorithm_version":1,"spacing_mm":[1.5,1.5,3.0],)"
            R"("volume_shape":[224,224,160],"window_hu":[-1000.0,1000.0],)"
            R"("output_range":[0.0,1.0],"storage":"uint16"})");
  EXPECT_EQ(preprocess_spec(preprocess_preset("phantom")),
            R"({"algorithm":"monai_spacing","algorithm_version":1,"spacing_mm":[5.6,5.6,6.0],)"
            R"("volume_shape":[56,40,32],"window_hu":[-50.0,200.0],)"
            R"("output_range":[0.0,1.0],"storage":"uint16"})");
}

TEST(PreprocessSpecification, IsReadBackAsWritten) {
  for (const char* preset : {"merlin", "ct_clip", "phantom"}) {
    PreprocessOptions options = preprocess_preset(preset);
    for (const Orientation orientation : {Orientation::kRas, Orientation::kStored})
      for (const double padding : {0.0, 0.5}) {
        options.orientation = orientation;
        options.padding = padding;
        const std::string text = preprocess_spec(options);
        EXPECT_EQ(preprocess_spec(parse_preprocess_spec(text)), text);
      }
  }
}

TEST(CtClip, SmallScansAreSurroundedByItsPadding) {
  const TemporaryFolder folder;
  Volume scan;
  scan.shape = {6, 6, 4};
  scan.affine = {{{0.75, 0, 0, 1}, {0, 0.75, 0, 2}, {0, 0, 1.5, 3}, {0, 0, 0, 1}}};
  scan.voxels.assign(144, 400.0F);
  PreprocessOptions options = preprocess_preset("ct_clip");
  options.volume_shape = {9, 6, 4};
  const Volume out = preprocess(scan, options);
  EXPECT_EQ(std::count_if(out.voxels.begin(), out.voxels.end(),
                          [](float v) { return std::abs(v - 0.4F) < 1e-6F; }),
            144);
  EXPECT_EQ(std::count(out.voxels.begin(), out.voxels.end(), -1.0F), 72);
  EXPECT_EQ(out.affine[0][3], 0.25) << "one voxel of 0.75 mm lies before the scan";
}

/// Half-voxel centres: twice the spacing lays each new voxel between two old ones.
TEST(CtClip, VoxelsAreCellsNotPoints) {
  Volume scan;
  scan.shape = {7, 4, 4};
  scan.affine = {{{0.5, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}};
  scan.voxels.resize(112);
  for (std::int64_t x = 0; x < 7; ++x)
    for (std::int64_t yz = 0; yz < 16; ++yz)
      scan.voxels[static_cast<std::size_t>(x * 16 + yz)] = static_cast<float>(100 * x);
  PreprocessOptions options = preprocess_preset("ct_clip");
  options.spacing_mm = {1, 1, 1};
  options.volume_shape = {3, 4, 4};  // 7 * 0.5 / 1 = 3.5, cut to 3
  const Volume out = preprocess(scan, options);
  for (std::int64_t x = 0; x < 3; ++x) {
    const double index = (static_cast<double>(x) + 0.5) * 7 / 3 - 0.5;
    EXPECT_NEAR(static_cast<double>(out.at(x, 1, 2)), index / 10, 1e-6);
    EXPECT_NEAR(out.affine[0][0] * static_cast<double>(x) + out.affine[0][3], 0.5 * index, 1e-12);
  }
}

}  // namespace
}  // namespace triphase::data
