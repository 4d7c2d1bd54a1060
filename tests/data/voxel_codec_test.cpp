// SPDX-License-Identifier: Apache-2.0
#include "data/voxel_codec.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace triphase::data {
namespace {

TEST(VoxelCodec, EveryHalfSurvivesTheWayToFloatAndBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = float_from_half(half);
    if ((half & 0x7C00U) == 0x7C00U && (half & 0x3FFU) != 0) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    ASSERT_EQ(half_from_float(value), half) << bits;
  }
}

TEST(VoxelCodec, FloatsGoToTheNearestHalfTiesToEven) {
  for (std::uint16_t half = 0; half < 0x7BFF; ++half) {
    const double low = static_cast<double>(float_from_half(half));
    const double high = static_cast<double>(float_from_half(static_cast<std::uint16_t>(half + 1)));
    const auto middle = static_cast<float>((low + high) / 2);
    const auto even = static_cast<std::uint16_t>(half + (half & 1U));
    ASSERT_EQ(half_from_float(middle), even) << half;
    ASSERT_EQ(half_from_float(std::nextafter(middle, 0.0F)), half) << half;
    ASSERT_EQ(half_from_float(std::nextafter(middle, 1e9F)), half + 1) << half;
  }
  EXPECT_EQ(half_from_float(65520), 0x7C00);
  EXPECT_EQ(half_from_float(65519), 0x7BFF);
  EXPECT_EQ(half_from_float(-std::numeric_limits<float>::infinity()), 0xFC00);
  EXPECT_EQ(half_from_float(std::numeric_limits<float>::quiet_NaN()), 0x7E00);
}

TEST(VoxelCodec, EveryUint16StepSurvivesDecodingAndEncoding) {
  for (const std::array<double, 2>& range : {std::array<double, 2>{0, 1}, {-1, 1}, {-1000, 3000}}) {
    PreprocessOptions options;
    options.output_range = range;
    const VoxelCodec codec = codec_for(options);
    std::vector<std::byte> stored(2 * 65536);
    for (std::size_t i = 0; i < 65536; ++i) {
      stored[2 * i] = static_cast<std::byte>(i & 255U);
      stored[2 * i + 1] = static_cast<std::byte>(i >> 8);
    }
    std::vector<float> values(65536);
    decode_voxels(stored, codec, values);
    EXPECT_EQ(values.front(), static_cast<float>(range[0]));
    EXPECT_NEAR(static_cast<double>(values.back()), range[1], 1e-6 * (range[1] - range[0]));
    EXPECT_EQ(encode_voxels(values, codec), stored);
  }
}

TEST(VoxelCodec, DecodingHasTheFormulasBitsAtAnyPlaceAndLength) {
  PreprocessOptions options;
  options.output_range = {-1, 1};
  const VoxelCodec codec = codec_for(options);
  std::vector<float> samples(64);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<float>(i % 41) / 21 - 1;
  const std::vector<std::byte> stored = encode_voxels(samples, codec);
  for (std::size_t from = 0; from < 9; ++from)      // of the stored bytes
    for (std::size_t place = 0; place < 9; ++place)  // of the output
      for (std::size_t count = 0; count < 40; ++count) {
        std::vector<float> out(64, 7);
        decode_voxels(std::span(stored).subspan(2 * from, 2 * count), codec, std::span(out).subspan(place, count));
        for (std::size_t i = 0; i < out.size(); ++i) {
          const bool is_inside = i >= place && i < place + count;
          const std::size_t k = 2 * (from + i - place);
          const float expected = !is_inside ? 7
                                            : static_cast<float>(std::to_integer<int>(stored[k]) +
                                                                 256 * std::to_integer<int>(stored[k + 1])) *
                                                      static_cast<float>(codec.scale) +
                                                  static_cast<float>(codec.offset);
          ASSERT_EQ(out[i], expected) << from << " " << place << " " << count << " " << i;
        }
      }
}

TEST(VoxelCodec, ValuesBeyondTheRangeAreClamped) {
  const VoxelCodec codec = codec_for(PreprocessOptions{});
  const std::vector<float> values{-5, 7};
  std::vector<float> back(2);
  decode_voxels(encode_voxels(values, codec), codec, back);
  EXPECT_EQ(back, (std::vector<float>{0, 1}));
}

}  // namespace
}  // namespace triphase::data
