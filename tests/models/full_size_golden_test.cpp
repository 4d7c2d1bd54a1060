// SPDX-License-Identifier: Apache-2.0
// Parity in full size with merlin-vlm's own network; see tests/reference/make_full_size.py.
#include "tests/models/models_test_support.hpp"
#include "tests/models/ruled_model.hpp"

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using test::relative_error;
using test::TensorMap;

constexpr std::uint64_t kSeed = 17;

/// float32 through 152 convolutions or twelve layers, each a sum of up to 4,608 products in an
/// order of its own: up to 1.3e-6 is seen. Rows of one case differ by 5e-2 or more.
constexpr double kTolerance = 1e-5;

class FullSizeGolden : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model() = std::make_unique<TwoTower>(test::ruled_model(model_preset("merlin"), kSeed));
    golden() = test::read_golden("towers/merlin_cases");
  }
  static void TearDownTestSuite() { model().reset(); }
  static std::unique_ptr<TwoTower>& model() {
    static std::unique_ptr<TwoTower> shared;
    return shared;
  }
  static TensorMap& golden() {
    static TensorMap shared;
    return shared;
  }

  void expect_near(const at::Tensor& found, const std::string& name) {
    const double error = relative_error(found, golden().at(name));
    RecordProperty(name, str(error));
    EXPECT_LT(error, kTolerance) << name;
  }

  void check_image(const std::string& name, std::uint64_t place,
                   const std::vector<std::int64_t>& shape) {
    const c10::InferenceMode inference;
    const at::Tensor volumes = test::ruled_volumes(kSeed, 1'000'000 + place, shape);
    const auto output = (*model())->image_tower()->forward(volumes, /*with_phenotypes=*/true);
    expect_near(output.features, name + ".features");
    expect_near(output.projection, name + ".projection");
    expect_near(output.phenotype_logits, name + ".phenotype_logits");
  }

  void check_text(const std::string& name, std::uint64_t place,
                  const std::vector<std::int64_t>& lengths) {
    const c10::InferenceMode inference;
    const auto [tokens, mask] = test::ruled_tokens(kSeed, 2'000'000 + place, lengths,
                                                   (*model())->options().text.vocabulary_size);
    const auto output = (*model())->text_tower()->forward(tokens, mask);
    expect_near(output.cls, name + ".cls");
    expect_near(output.projection, name + ".projection");
  }
};

TEST_F(FullSizeGolden, Volumes64By64By48) { check_image("image_64", 0, {2, 1, 64, 64, 48}); }

TEST_F(FullSizeGolden, Volumes112By112By80) { check_image("image_112", 1, {2, 1, 112, 112, 80}); }

TEST_F(FullSizeGolden, TextsOf1024And3Tokens) { check_text("text_1024", 0, {1024, 3}); }

TEST_F(FullSizeGolden, TextsOf513And512Tokens) { check_text("text_513", 1, {513, 512}); }

TEST_F(FullSizeGolden, TextsOf300And258And257Tokens) { check_text("text_300", 2, {300, 258, 257}); }

}  // namespace
}  // namespace triphase::models
