// SPDX-License-Identifier: Apache-2.0
// Parity with Python peft on Conv3d and Linear; see tests/reference/make_adapters.py.
#include "tests/models/models_test_support.hpp"

#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using test::max_error;
using test::read_golden;
using test::TensorMap;

const char* const kCases[] = {"plain", "rslora", "heads"};

TwoTower adapted_golden(const std::string& name) {
  TwoTower model = test::golden_model("merlin_tiny");
  read_peft_folder(triphase::test::golden_folder() / "peft" / name, model);
  return model;
}

/// Outputs against the golden's, `kind` being "" or "merged_".
void check_outputs(TwoTower& model, const TensorMap& golden, const std::string& name,
                   const std::string& kind, const std::string& suffix) {
  const at::ScalarType dtype = suffix == "f32" ? at::kFloat : at::kDouble;
  // Sums of at most 864 products in another order.
  const double tolerance = suffix == "f32" ? 1e-5 : 1e-12;
  model->to(dtype);
  const at::NoGradGuard no_grad;
  const Embeddings rows = model->forward(golden.at("volumes").to(dtype), golden.at("tokens"),
                                         golden.at("mask"), /*with_phenotypes=*/true);
  const auto expected = [&](const char* key) {
    return golden.at(name + "." + kind + key + "." + suffix);
  };
  EXPECT_LT(max_error(rows.image, expected("image")), tolerance) << name;
  EXPECT_LT(max_error(rows.text, expected("text")), tolerance) << name;
  EXPECT_LT(test::relative_error(rows.phenotype_logits, expected("phenotype_logits")), tolerance)
      << name;
}

TEST(AdaptersGolden, FoldersOfPeftGivePeftsOutputs) {
  const TensorMap golden = read_golden("adapters");
  for (const std::string name : kCases)
    for (const std::string suffix : {"f32", "f64"}) {
      TwoTower model = adapted_golden(name);
      check_outputs(model, golden, name, "", suffix);
    }
}

TEST(AdaptersGolden, MergedOutputsEqualPefts) {
  const TensorMap golden = read_golden("adapters");
  for (const std::string name : kCases) {
    TwoTower model = adapted_golden(name);
    model->to(at::kDouble);
    merge_adapters(model);
    check_outputs(model, golden, name, "merged_", "f64");
  }
}

TEST(AdaptersGolden, DeltaWeightsEqualTheFormula) {
  const TensorMap golden = read_golden("adapters");
  std::size_t compared = 0;
  for (const std::string name : kCases) {
    TwoTower model = adapted_golden(name);
    for (const auto& item : model->named_modules()) {
      const auto found = golden.find(name + ".delta." + item.key());
      if (found == golden.end()) continue;
      const auto* conv = item.value()->as<AdaptedConv3dImpl>();
      const auto* linear = item.value()->as<AdaptedLinearImpl>();
      const at::Tensor delta = conv != nullptr ? conv->delta_weight() : linear->delta_weight();
      // The golden's is of the factors in float64, ours is rounded to float32 once.
      EXPECT_LT(test::relative_error(delta, found->second), 1e-7) << found->first;
      ++compared;
    }
  }
  std::size_t in_golden = 0;
  for (const auto& [key, tensor] : golden)
    in_golden += key.find(".delta.") != std::string::npos ? 1U : 0U;
  EXPECT_EQ(compared, in_golden);
}

TEST(AdaptersGolden, GradientsOfAllFactorsEqualPefts) {
  const TensorMap golden = read_golden("adapters");
  TwoTower model = adapted_golden("plain");
  model->to(at::kDouble);
  for (auto& item : model->named_parameters())
    if (item.key().find(".lora_") == std::string::npos) item.value().set_requires_grad(false);
  const test::Input input{golden.at("volumes").to(at::kDouble), golden.at("tokens"),
                          golden.at("mask")};
  const TensorMap found = test::loss_gradients(model, input);
  const Embeddings rows = model->forward(input.volumes, input.tokens, input.mask);
  EXPECT_LT(
      max_error(test::contrastive_loss(rows, model->log_scale()), golden.at("plain.loss_mean")),
      1e-12);
  std::size_t compared = 0;
  for (const auto& [key, expected] : golden) {
    const std::string prefix = "plain.gradient.";
    if (!key.starts_with(prefix)) continue;
    const std::string name = key.substr(prefix.size());
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_LT(test::relative_error(found.at(name), expected), 1e-12) << name;
    ++compared;
  }
  EXPECT_EQ(compared, found.size());
  EXPECT_EQ(compared, adapter_state(model).size());
}

}  // namespace
}  // namespace triphase::models
