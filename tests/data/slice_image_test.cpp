// SPDX-License-Identifier: Apache-2.0
#include "data/slice_image.hpp"

#include <zlib.h>

#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

/// 6x5x4 voxels of 1, 2 and 3 mm, dark but for one octant: towards the patient's right, front, head.
Volume marked_volume() {
  Volume volume;
  volume.shape = {6, 5, 4};
  volume.affine = {{{1, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 3, 0}, {0, 0, 0, 1}}};
  for (std::int64_t x = 0; x < 6; ++x)
    for (std::int64_t y = 0; y < 5; ++y)
      for (std::int64_t z = 0; z < 4; ++z) volume.voxels.push_back(x >= 3 && y >= 2 && z >= 2 ? 1 : 0);
  return volume;
}

std::uint8_t pixel(const SliceImage& image, std::int64_t column, std::int64_t row) {
  return image.grey[static_cast<std::size_t>(row * image.width + column)];
}

TEST(SliceImage, TheMarkIsWhereAPersonLooksForIt) {
  const auto [axial, coronal, sagittal] = middle_slices(marked_volume(), {0, 1});
  for (const SliceImage& image : {axial, coronal}) {
    EXPECT_EQ(image.edges[0], "R") << image.name;
    EXPECT_EQ(image.edges[1], "L") << image.name;
    EXPECT_EQ(image.width, 6);
  }
  EXPECT_EQ(axial.edges[2] + axial.edges[3], "AP");
  EXPECT_EQ(coronal.edges[2] + coronal.edges[3], "SI");
  EXPECT_EQ(sagittal.edges[0] + sagittal.edges[1] + sagittal.edges[2] + sagittal.edges[3], "APSI");
  for (const SliceImage& image : {axial, coronal, sagittal}) {
    EXPECT_EQ(pixel(image, 0, 0), 255) << image.name << ": the mark is at the upper left";
    EXPECT_EQ(pixel(image, image.width - 1, 0), 0) << image.name;
    EXPECT_EQ(pixel(image, 0, image.height - 1), 0) << image.name;
  }
  EXPECT_EQ(pixel(axial, 2, 2), 255);
  EXPECT_EQ(pixel(axial, 3, 2), 0);
  EXPECT_EQ(pixel(axial, 2, 3), 0);
  EXPECT_EQ(axial.width_mm, 6);
  EXPECT_EQ(axial.height_mm, 10);
  EXPECT_EQ(sagittal.height_mm, 12);
}

TEST(SliceImage, TheLettersFollowTheAffine) {
  Volume volume = marked_volume();
  volume.affine[0][0] = -1;  // the first axis runs to the left
  volume.affine[1][1] = 0;
  volume.affine[2][1] = -2;  // the second one to the feet, the third one to the back
  volume.affine[2][2] = 0;
  volume.affine[1][2] = -3;
  const auto [axial, coronal, sagittal] = middle_slices(volume, {0, 1});
  EXPECT_EQ(axial.edges[0] + axial.edges[1] + axial.edges[2] + axial.edges[3], "LRIS");
  EXPECT_EQ(coronal.edges[2] + coronal.edges[3], "PA");
}

TEST(SliceImage, GreyRunsOverTheRangeAndIsClipped) {
  Volume volume = marked_volume();
  volume.shape = {1, 1, 5};
  volume.voxels = {-2, -1, 0, 1, 2};
  const SliceImage coronal = middle_slices(volume, {-1, 1})[1];
  EXPECT_EQ(coronal.grey, (std::vector<std::uint8_t>{255, 255, 128, 0, 0}));
}

TEST(SliceImage, APngHoldsItsPixelsAndItsSums) {
  const SliceImage image = middle_slices(marked_volume(), {0, 1})[0];
  const std::string png = png_of(image);
  ASSERT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  const auto number = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(png[at + i]);
    return value;
  };
  std::string pixels(static_cast<std::size_t>((image.width + 1) * image.height), '?');
  std::string types;
  for (std::size_t at = 8; at < png.size(); at += 12 + number(at)) {
    const std::string checked = png.substr(at + 4, 4 + number(at));
    types += checked.substr(0, 4) + " ";
    EXPECT_EQ(number(at + 8 + number(at)),
              ::crc32(0, reinterpret_cast<const Bytef*>(checked.data()),
                      static_cast<uInt>(checked.size())));
    if (checked.starts_with("IHDR")) {
      EXPECT_EQ(number(at + 8), 6U);
      EXPECT_EQ(number(at + 12), 5U);
      EXPECT_EQ(checked.substr(12), std::string("\x08\0\0\0\0", 5));
    }
    uLongf size = pixels.size();
    if (checked.starts_with("IDAT")) {
      ASSERT_EQ(::uncompress(reinterpret_cast<Bytef*>(pixels.data()), &size,
                             reinterpret_cast<const Bytef*>(checked.data() + 4),
                             static_cast<uLong>(checked.size() - 4)),
                Z_OK);
    }
  }
  EXPECT_EQ(types, "IHDR IDAT IEND ");
  for (std::int64_t row = 0; row < image.height; ++row)
    for (std::int64_t column = 0; column < image.width; ++column)
      EXPECT_EQ(static_cast<std::uint8_t>(
                    pixels[static_cast<std::size_t>(row * (image.width + 1) + column + 1)]),
                pixel(image, column, row));
}

}  // namespace
}  // namespace triphase::data
