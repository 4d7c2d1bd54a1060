// SPDX-License-Identifier: Apache-2.0
#include "data/preprocess.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "data/affine.hpp"
#include "data/nifti.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::expect_error;
using test::Golden;
using test::GoldenTensor;

/// MONAI interpolates in float64 and stores float32 HU up to 2^11, then maps 2000 HU onto 1: one
/// rounding of HU is 6e-8 of the range, the mapping adds as much again.
constexpr double kSyntheticTolerance = 1e-6;

PreprocessOptions options_from(const Json& json) {
  PreprocessOptions options;
  json.at("spacing_mm").get_to(options.spacing_mm);
  json.at("volume_shape").get_to(options.volume_shape);
  json.at("window_hu").get_to(options.window_hu);
  json.at("output_range").get_to(options.output_range);
  return options;
}

Affine affine_from_golden(const GoldenTensor& tensor) {
  Affine affine{};
  for (std::size_t i = 0; i < 16; ++i) affine[i / 4][i % 4] = tensor.values[i];
  return affine;
}

Volume volume_from_golden(const GoldenTensor& voxels, const GoldenTensor& affine) {
  Volume volume;
  std::copy(voxels.shape.begin(), voxels.shape.end(), volume.shape.begin());
  for (const double value : voxels.values) volume.voxels.push_back(static_cast<float>(value));
  volume.affine = affine_from_golden(affine);
  return volume;
}

void expect_matches(const Volume& volume, const GoldenTensor& voxels, const GoldenTensor& affine,
                    double tolerance) {
  ASSERT_EQ(std::vector<std::int64_t>(volume.shape.begin(), volume.shape.end()), voxels.shape);
  double worst = 0;
  for (std::size_t i = 0; i < voxels.values.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(volume.voxels[i]) - voxels.values[i]));
  EXPECT_LE(worst, tolerance);
  for (std::size_t i = 0; i < 16; ++i)
    EXPECT_NEAR(volume.affine[i / 4][i % 4], affine.values[i], 1e-9) << "affine cell " << i;
}

TEST(Preprocess, GoldenFilesComeOutAsFromMonai) {
  const Golden golden = test::load_golden("preprocess/files");
  const Json json = test::load_golden_json("preprocess/files");
  for (const auto& [name, entry] : json.at("cases").items()) {
    const Volume scan = read_nifti(test::golden_folder() / entry.at("file").get<std::string>());
    for (const auto& [target, options] : json.at("targets").items()) {
      SCOPED_TRACE(name + " to " + target);
      const double width =
          options.at("output_range")[1].get<double>() - options.at("output_range")[0].get<double>();
      const double window =
          options.at("window_hu")[1].get<double>() - options.at("window_hu")[0].get<double>();
      expect_matches(preprocess(scan, options_from(options)), golden.at(name + "." + target),
                     golden.at(name + "." + target + "_affine"),
                     kSyntheticTolerance * width * 2000 / window);
    }
  }
}

TEST(Preprocess, AllOrientationsAndRandomGridsComeOutAsFromMonai) {
  const Golden golden = test::load_golden("preprocess/volumes");
  const Json cases = test::load_golden_json("preprocess/volumes").at("cases");
  ASSERT_EQ(cases.size(), 96U);
  for (const auto& [name, options] : cases.items()) {
    SCOPED_TRACE(name);
    const std::string voxels = golden.contains(name + ".voxels") ? name : "orientation";
    const Volume scan =
        volume_from_golden(golden.at(voxels + ".voxels"), golden.at(name + ".affine"));
    expect_matches(preprocess(scan, options_from(options)), golden.at(name + ".expected"),
                   golden.at(name + ".expected_affine"), kSyntheticTolerance);
  }
}

TEST(Preprocess, RealScansComeOutAsFromMonai) {
  TRIPHASE_NEEDS_SHARED();
  constexpr double kOneStep = 1.0 / 65535;  // of the cache's uint16
  const Golden golden = test::load_golden("preprocess/scans");
  const Json cases = test::load_golden_json("preprocess/scans").at("cases");
  for (const auto& [name, entry] : cases.items()) {
    SCOPED_TRACE(name);
    const Volume scan =
        read_nifti(test::shared_folder() / "data" / "ct" / entry.at("file").get<std::string>());
    const Volume out = preprocess(scan, preprocess_preset("merlin"));
    const GoldenTensor& positions = golden.at(name + ".positions");
    const GoldenTensor& values = golden.at(name + ".values");
    double worst = 0;
    for (std::size_t i = 0; i < values.values.size(); ++i) {
      const auto at = [&](std::size_t axis) {
        return static_cast<std::int64_t>(positions.values[3 * i + axis]);
      };
      worst = std::max(
          worst, std::abs(static_cast<double>(out.at(at(0), at(1), at(2))) - values.values[i]));
    }
    EXPECT_LE(worst, kOneStep);
    double sum = 0;
    std::int64_t nonzero = 0;
    for (const float value : out.voxels) {
      sum += static_cast<double>(value);
      nonzero += value != 0;
    }
    EXPECT_NEAR(sum / static_cast<double>(out.size()), entry.at("mean").get<double>(), 1e-7);
    EXPECT_NEAR(static_cast<double>(nonzero), entry.at("num_nonzero").get<double>(), 8);
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_NEAR(out.affine[i / 4][i % 4], golden.at(name + ".expected_affine").values[i], 1e-9);
  }
}

/// A random grid: rotated, flipped, permuted, and sheared when asked.
Affine random_affine(KeyedRandom& random, bool sheared) {
  const double a = random.uniform(-3.1, 3.1);
  const double b = random.uniform(-1.5, 1.5);
  const Matrix3 turn_z{{{std::cos(a), -std::sin(a), 0}, {std::sin(a), std::cos(a), 0}, {0, 0, 1}}};
  const Matrix3 turn_x{{{1, 0, 0}, {0, std::cos(b), -std::sin(b)}, {0, std::sin(b), std::cos(b)}}};
  Matrix3 scale{};
  for (std::size_t i = 0; i < 3; ++i)
    scale[i][i] = random.uniform(0.6, 3.0) * (random.chance(0.5) ? 1 : -1);
  if (sheared) scale[1][2] = random.uniform(-0.8, 0.8);
  return affine_from(multiply(multiply(turn_x, turn_z), scale),
                     {random.uniform(-99, 99), random.uniform(-99, 99), random.uniform(-99, 99)});
}

/// HU that rise linearly through space stay so: trilinear interpolation reproduces them wherever
/// the old grid has voxels around.
TEST(Preprocess, LinearRampsAreReproducedOnEveryGrid) {
  PreprocessOptions options;
  options.volume_shape = {14, 12, 10};
  const auto ramp = [](const Vector3& p) { return 2.5 * p[0] - 1.75 * p[1] + 3 * p[2] + 40; };
  std::int64_t num_checked = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    KeyedRandom random{11, seed};
    for (double& spacing : options.spacing_mm) spacing = random.uniform(0.7, 3.5);
    Volume scan;
    for (std::int64_t& length : scan.shape)
      length = 2 + static_cast<std::int64_t>(random.below(14));
    scan.affine = random_affine(random, seed % 2 == 1);
    scan.voxels.resize(static_cast<std::size_t>(scan.size()));
    for (std::int64_t x = 0; x < scan.shape[0]; ++x)
      for (std::int64_t y = 0; y < scan.shape[1]; ++y)
        for (std::int64_t z = 0; z < scan.shape[2]; ++z)
          scan.at(x, y, z) = static_cast<float>(
              ramp(apply(scan.affine, {static_cast<double>(x), static_cast<double>(y),
                                       static_cast<double>(z)})));
    const Volume out = preprocess(scan, options);
    const auto to_scan = solve(scan.affine, out.affine);
    ASSERT_TRUE(to_scan.has_value());
    for (std::int64_t x = 0; x < out.shape[0]; ++x)
      for (std::int64_t y = 0; y < out.shape[1]; ++y)
        for (std::int64_t z = 0; z < out.shape[2]; ++z) {
          const Vector3 index{static_cast<double>(x), static_cast<double>(y),
                              static_cast<double>(z)};
          const Vector3 old = apply(*to_scan, index);
          bool inside = true;
          for (std::size_t i = 0; i < 3; ++i)
            inside =
                inside && old[i] > 1e-6 && old[i] < static_cast<double>(scan.shape[i] - 1) - 1e-6;
          if (!inside || out.at(x, y, z) == 0) continue;  // outside the grid or cropped: padding
          const double expected =
              std::clamp((ramp(apply(out.affine, index)) + 1000) / 2000, 0.0, 1.0);
          ASSERT_NEAR(static_cast<double>(out.at(x, y, z)), expected, 2e-7);
          ++num_checked;
        }
  }
  EXPECT_GT(num_checked, 10000);
}

Volume textured_scan() {
  Volume scan;
  scan.shape = {9, 7, 6};
  scan.affine = {{{1.1, 0, 0, -4}, {0, 1.7, 0, 5}, {0, 0, 2.3, 6}, {0, 0, 0, 1}}};
  KeyedRandom random{12};
  for (std::int64_t i = 0; i < scan.size(); ++i)
    scan.voxels.push_back(static_cast<float>(random.uniform(-1200, 1200)));
  return scan;
}

/// The same scan stored along other axes: index `i` of the new array runs along `axes[i]`,
/// backwards if flipped.
Volume stored_otherwise(const Volume& scan, const std::array<std::size_t, 3>& axes,
                        unsigned flips) {
  Volume out;
  Affine to_old{};
  to_old[3][3] = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    const bool flipped = (flips >> i) & 1U;
    out.shape[i] = scan.shape[axes[i]];
    to_old[axes[i]][i] = flipped ? -1 : 1;
    to_old[axes[i]][3] = flipped ? static_cast<double>(out.shape[i] - 1) : 0;
  }
  out.affine = multiply(scan.affine, to_old);
  out.voxels.resize(scan.voxels.size());
  for (std::int64_t a = 0; a < out.shape[0]; ++a)
    for (std::int64_t b = 0; b < out.shape[1]; ++b)
      for (std::int64_t c = 0; c < out.shape[2]; ++c) {
        const Vector3 old =
            apply(to_old, {static_cast<double>(a), static_cast<double>(b), static_cast<double>(c)});
        out.at(a, b, c) = scan.at(std::llround(old[0]), std::llround(old[1]), std::llround(old[2]));
      }
  return out;
}

TEST(Preprocess, HowAScanIsStoredDoesNotChangeTheResult) {
  const Volume scan = textured_scan();
  PreprocessOptions options;
  options.volume_shape = {8, 6, 7};
  const Volume expected = preprocess(scan, options);
  std::array<std::size_t, 3> axes{0, 1, 2};
  int num_orientations = 0;
  do {
    for (unsigned flips = 0; flips < 8; ++flips, ++num_orientations) {
      SCOPED_TRACE(str(axes[0], axes[1], axes[2], " flips ", flips));
      const Volume out = preprocess(stored_otherwise(scan, axes, flips), options);
      ASSERT_EQ(out.voxels, expected.voxels);
      for (std::size_t i = 0; i < 16; ++i)
        ASSERT_NEAR(out.affine[i / 4][i % 4], expected.affine[i / 4][i % 4], 1e-9);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
  EXPECT_EQ(num_orientations, 48);
}

TEST(Preprocess, DoingItTwiceChangesNothing) {
  PreprocessOptions options;
  options.volume_shape = {8, 9, 5};
  const Volume once = preprocess(textured_scan(), options);
  PreprocessOptions again = options;
  again.window_hu = {0, 1};
  const Volume twice = preprocess(once, again);
  EXPECT_EQ(twice.voxels, once.voxels);
  EXPECT_EQ(twice.affine, once.affine);
}

TEST(Preprocess, ASmallerBoxIsTheCentreOfALargerOne) {
  PreprocessOptions large;
  large.spacing_mm = {0.8, 0.9, 1.0};
  large.volume_shape = {20, 24, 22};
  PreprocessOptions small = large;
  small.volume_shape = {10, 6, 8};
  const Volume box = preprocess(textured_scan(), large);
  const Volume centre = preprocess(textured_scan(), small);
  for (std::int64_t x = 0; x < 10; ++x)
    for (std::int64_t y = 0; y < 6; ++y)
      for (std::int64_t z = 0; z < 8; ++z) {
        const Vector3 at{static_cast<double>(x), static_cast<double>(y), static_cast<double>(z)};
        const auto to_box = solve(box.affine, centre.affine);
        const Vector3 in_box = apply(*to_box, at);
        ASSERT_EQ(centre.at(x, y, z), box.at(std::llround(in_box[0]), std::llround(in_box[1]),
                                             std::llround(in_box[2])));
      }
}

TEST(Preprocess, PaddingIsZeroAndWindowClips) {
  Volume scan = textured_scan();
  std::fill(scan.voxels.begin(), scan.voxels.end(), 5000.0F);
  PreprocessOptions options;
  options.volume_shape = {30, 30, 30};
  options.output_range = {-1, 1};
  const Volume out = preprocess(scan, options);
  EXPECT_EQ(out.at(0, 0, 0), 0.0F);
  EXPECT_EQ(out.at(15, 15, 15), 1.0F);
  EXPECT_EQ(std::count(out.voxels.begin(), out.voxels.end(), 1.0F) +
                std::count(out.voxels.begin(), out.voxels.end(), 0.0F),
            27000);
}

TEST(Preprocess, SingularOrAbsurdGridsAreRefused) {
  Volume scan = textured_scan();
  scan.affine[1] = scan.affine[0];
  expect_error<DataError>([&] { (void)preprocess(scan, {}); }, ExitCode::kBadData, {"singular"});
  scan = textured_scan();
  scan.affine[2][2] = 1e9;
  expect_error<DataError>([&] { (void)preprocess(scan, {}); }, ExitCode::kBadData,
                          {"Check the spacing"});
  scan.affine[2][2] = std::nan("");
  expect_error<DataError>([&] { (void)preprocess(scan, {}); }, ExitCode::kBadData, {"not finite"});
}

TEST(PreprocessOptions, EveryParameterButThePresetNameIsPartOfTheSpecification) {
  const PreprocessOptions base = preprocess_preset("merlin");
  std::vector<PreprocessOptions> others(10, base);
  others[0].spacing_mm[1] = 1.25;
  others[1].volume_shape[2] = 161;
  others[2].window_hu[0] = -999.5;
  others[3].output_range[1] = 2;
  others[4].storage = Storage::kFloat16;
  others[5] = preprocess_preset("phantom");
  others[6] = preprocess_preset("ct_clip");
  others[7].resampling = Resampling::kTorchInterpolate;
  others[8].orientation = Orientation::kStored;
  others[9].padding = 0.5;
  for (const PreprocessOptions& other : others)
    EXPECT_NE(preprocess_spec(other), preprocess_spec(base));
  PreprocessOptions renamed = base;
  renamed.preset = "mine";
  EXPECT_EQ(preprocess_spec(renamed), preprocess_spec(base));
}

TEST(PreprocessOptions, UnknownPresetsAndStoragesNameTheKnownOnes) {
  expect_error<ConfigError>([] { (void)preprocess_preset("merlin2"); }, ExitCode::kUsage,
                            {"'merlin2'", "'merlin'", "'ct_clip'", "'phantom'"});
  expect_error<ConfigError>([] { (void)resampling_from_name("cubic"); }, ExitCode::kUsage,
                            {"'cubic'", "'monai_spacing'", "'torch_interpolate'"});
  expect_error<ConfigError>([] { (void)orientation_from_name("lps"); }, ExitCode::kUsage,
                            {"'lps'", "'ras'", "'stored'"});
  expect_error<ConfigError>([] { (void)storage_from_name("int8"); }, ExitCode::kUsage,
                            {"'int8'", "'uint16'"});
  for (const Storage storage : {Storage::kUint16, Storage::kFloat16, Storage::kFloat32})
    EXPECT_EQ(storage_from_name(storage_name(storage)), storage);
}

TEST(PreprocessOptions, ValuesOutOfRangeAreRefused) {
  const auto refuse = [](const char* word, auto change) {
    PreprocessOptions options;
    change(options);
    expect_error<ConfigError>([&] { check_preprocess_options(options); }, ExitCode::kUsage, {word});
  };
  refuse("spacing_mm", [](PreprocessOptions& o) { o.spacing_mm[0] = 0; });
  refuse("spacing_mm", [](PreprocessOptions& o) { o.spacing_mm[2] = std::nan(""); });
  refuse("volume_shape", [](PreprocessOptions& o) { o.volume_shape[1] = 0; });
  refuse("volume_shape", [](PreprocessOptions& o) { o.volume_shape = {4096, 4096, 4096}; });
  refuse("window_hu", [](PreprocessOptions& o) { o.window_hu = {200, -50}; });
  refuse("output_range", [](PreprocessOptions& o) { o.output_range = {1, 1}; });
  refuse("holds 0", [](PreprocessOptions& o) { o.output_range = {1, 2}; });
}

}  // namespace
}  // namespace triphase::data
