// SPDX-License-Identifier: Apache-2.0
// Parity with merlin-vlm's own image network and transformers' own Longformer; see
// tests/reference/make_towers.py.
#include "tests/models/models_test_support.hpp"
#include "tests/models/ruled_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace triphase::models {
namespace {

using test::golden_model;
using test::max_error;
using test::read_golden;
using test::TensorMap;

/// Sums of at most 3,456 products in another order, layer upon layer.
double tolerance(const std::string& suffix) { return suffix == "f32" ? 1e-5 : 1e-12; }

/// Outputs are up to some units; the error is measured against the largest value where that is
/// above 1.
void expect_near(const at::Tensor& found, const at::Tensor& expected, const std::string& suffix,
                 const std::string& what) {
  const double scale = std::max(1.0, expected.abs().max().item<double>());
  EXPECT_LT(max_error(found, expected) / scale, tolerance(suffix)) << what;
}

constexpr std::uint64_t kRuledSeed = 13;
constexpr std::uint64_t kVolumesPlace = 1'000'000;

TwoTower reference_model(const std::string& name) {
  return name == "merlin_small" ? test::ruled_model(model_preset(name), kRuledSeed)
                                : golden_model(name);
}

/// merlin_small's volumes follow from a rule, too; the others' are in the golden.
TensorMap reference_cases(const std::string& name) {
  TensorMap cases = read_golden("towers/" + name + "_cases");
  if (name == "merlin_small")
    cases["image.volumes"] =
        test::keyed_uniform({kRuledSeed, kVolumesPlace}, {2, 1, 56, 40, 32}, 0, 1);
  return cases;
}

void check_images(const std::string& name, const std::vector<std::string>& cases) {
  const TensorMap golden = reference_cases(name);
  for (const std::string suffix : {"f32", "f64"}) {
    TwoTower model = reference_model(name);
    const at::ScalarType dtype = suffix == "f32" ? at::kFloat : at::kDouble;
    model->to(dtype);
    for (const std::string& c : cases) {
      const at::NoGradGuard no_grad;
      const at::Tensor volumes = golden.at(c + ".volumes").to(dtype);
      const ImageEncoding found = model->encode_image_volumes(volumes, /*with_phenotypes=*/true);
      const auto output = model->image_tower()->forward(volumes, false);
      EXPECT_EQ(found.embedding.scalar_type(), dtype);
      EXPECT_FALSE(output.phenotype_logits.defined());
      const auto expected = [&](const char* key) {
        return golden.at(str(c, ".", key, ".", suffix));
      };
      expect_near(found.features, expected("features"), suffix, c);
      expect_near(output.projection, expected("projection"), suffix, c);
      expect_near(found.embedding, expected("embedding"), suffix, c);
      expect_near(found.phenotype_logits, expected("phenotype_logits"), suffix, c);
    }
  }
}

void check_texts(const std::string& name, const std::vector<std::string>& cases) {
  const TensorMap golden = reference_cases(name);
  for (const std::string suffix : {"f32", "f64"}) {
    TwoTower model = reference_model(name);
    model->to(suffix == "f32" ? at::kFloat : at::kDouble);
    for (const std::string& c : cases) {
      const at::NoGradGuard no_grad;
      const auto output =
          model->text_tower()->forward(golden.at(c + ".tokens"), golden.at(c + ".mask"));
      const at::Tensor rows =
          model->encode_text_tokens(golden.at(c + ".tokens"), golden.at(c + ".mask"));
      const auto expected = [&](const char* key) {
        return golden.at(str(c, ".", key, ".", suffix));
      };
      expect_near(output.cls, expected("cls"), suffix, c);
      expect_near(output.projection, expected("projection"), suffix, c);
      expect_near(rows, expected("embedding"), suffix, c);
    }
  }
}

TEST(TowersGolden, TinyImageOutputsEqualMerlins) { check_images("merlin_tiny", {"image"}); }

TEST(TowersGolden, OddImageOutputsEqualMerlins) {
  check_images("merlin_odd", {"image", "image_deep"});
}

TEST(TowersGolden, TinyTextOutputsEqualLongformers) {
  check_texts("merlin_tiny", {"text", "text_full", "text_short", "text_even"});
}

TEST(TowersGolden, OddTextOutputsEqualLongformers) {
  check_texts("merlin_odd", {"text", "text_long"});
}

TEST(TowersGolden, SmallImageOutputsEqualMerlins) { check_images("merlin_small", {"image"}); }

TEST(TowersGolden, SmallTextOutputsEqualLongformers) {
  check_texts("merlin_small", {"text", "text_full"});
}

}  // namespace
}  // namespace triphase::models
