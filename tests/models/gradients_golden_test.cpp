// SPDX-License-Identifier: Apache-2.0
// Parity in float64 with merlin-vlm, transformers and peft, gradients included; see
// tests/reference/make_gradients.py.
#include "tests/models/models_test_support.hpp"
#include "tests/models/ruled_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace triphase::models {
namespace {

using test::max_error;
using test::relative_error;
using test::TensorMap;

constexpr std::uint64_t kSeed = 23;

/// Of the largest value: float64 through some twenty layers, summed in another order; 9.4e-15 is
/// seen.
constexpr double kOutputTolerance = 1e-12;
/// Of each tensor's largest value. merlin_tiny: 3.2e-14 is seen. merlin_odd's golden is rounded to
/// 2.4e-10 of it, which is all of the error seen.
constexpr double kGradientTolerance = 1e-9;
/// Gradients that vanish in exact arithmetic (a key's bias shifts all scores alike) are rounding
/// alone, 3e-16 at most; all others reach 2e-3 or more.
constexpr double kVanished = 1e-12;

struct Case {
  std::string model;
  BatchNormMode norm;
  bool adapted;
  Recompute recompute;
};

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  const char* const modes[] = {"None", "Blocks", "Stages"};
  return str(c.model == "merlin_tiny" ? "Tiny" : "Odd",
             c.norm == BatchNormMode::kLocal ? "Local" : "Frozen", c.adapted ? "Adapted" : "",
             modes[static_cast<std::size_t>(c.recompute)]);
}

TensorMap golden_of(const Case& c) {
  return test::read_golden(str("gradients/", c.model,
                               c.norm == BatchNormMode::kLocal ? "_local" : "_frozen",
                               c.adapted ? "_adapted" : ""));
}

/// Everything trains; under kLocal BatchNorm is in training mode, and nothing drops.
TwoTower model_of(const Case& c) {
  TwoTower model = test::golden_model(c.model);
  const bool tiny = c.model == "merlin_tiny";
  if (c.adapted)
    read_peft_folder(triphase::test::golden_folder() / "peft" / (tiny ? "rslora" : "odd"), model);
  model->to(at::kDouble);
  for (auto& item : model->named_parameters()) item.value().set_requires_grad(true);
  model->image_tower()->set_batch_norm(c.norm);
  if (c.norm == BatchNormMode::kLocal) model->image_tower()->train();
  model->image_tower()->set_recompute(c.recompute);
  model->text_tower()->set_recompute(c.recompute);
  return model;
}

test::Input input_of(const Case& c, std::int64_t vocabulary_size) {
  const bool tiny = c.model == "merlin_tiny";
  const std::uint64_t place = tiny ? 0 : 1;
  const std::vector<std::int64_t> lengths =
      tiny ? std::vector<std::int64_t>{37, 20, 6} : std::vector<std::int64_t>{32, 29, 9};
  const auto [tokens, mask] =
      test::ruled_tokens(kSeed, 2'000'000 + place, lengths, vocabulary_size);
  return {test::ruled_volumes(kSeed, 1'000'000 + place, {3, 1, 34, 33, 20}).to(at::kDouble), tokens,
          mask};
}

/// A golden's gradient, or its whole numbers of 2^-31 of the largest value.
at::Tensor gradient_in(const TensorMap& golden, const std::string& name) {
  const at::Tensor stored = golden.at("gradient." + name);
  if (stored.scalar_type() == at::kDouble) return stored;
  return stored.to(at::kDouble) * golden.at("largest." + name) / (std::exp2(31.0) - 1);
}

class GradientsGolden : public ::testing::TestWithParam<Case> {
 protected:
  /// @return the greatest error of a gradient over its tensor's largest value
  static double check_gradients(TwoTower& model, const TensorMap& golden) {
    double greatest = 0;
    std::size_t in_golden = 0;
    for (const auto& [key, tensor] : golden) in_golden += key.starts_with("gradient.") ? 1U : 0U;
    std::size_t compared = 0;
    for (const auto& item : model->named_parameters()) {
      const std::string& name = item.key();
      const bool expected = golden.contains("gradient." + name);
      EXPECT_EQ(item.value().grad().defined(), expected) << name;
      if (!expected || !item.value().grad().defined()) continue;
      ++compared;
      const at::Tensor reference = gradient_in(golden, name);
      if (reference.abs().max().item<double>() < kVanished) {
        EXPECT_LT(max_error(item.value().grad(), reference), kVanished) << name;
        continue;
      }
      const double error = relative_error(item.value().grad(), reference);
      EXPECT_LT(error, kGradientTolerance) << name;
      greatest = std::max(greatest, error);
    }
    EXPECT_EQ(compared, in_golden);
    return greatest;
  }

  /// The batch's own statistics have moved the running ones, once.
  static void check_statistics(TwoTower& model, const TensorMap& golden) {
    for (const auto& item : model->named_buffers()) {
      if (item.key().find(".running_") == std::string::npos) continue;
      const auto expected = golden.find("buffer." + item.key());
      ASSERT_NE(expected, golden.end()) << item.key();
      EXPECT_LT(relative_error(item.value(), expected->second), kOutputTolerance) << item.key();
    }
  }
};

TEST_P(GradientsGolden, OutputsAndEveryGradientAreMerlins) {
  const Case& c = GetParam();
  const TensorMap golden = golden_of(c);
  TwoTower model = model_of(c);
  const test::Input input = input_of(c, model->options().text.vocabulary_size);
  const Embeddings rows =
      model->forward(input.volumes, input.tokens, input.mask, /*with_phenotypes=*/true);
  const at::Tensor loss = test::contrastive_loss(rows, model->log_scale()) +
                          0.1 * rows.phenotype_logits.square().mean();
  loss.backward();
  double greatest = 0;
  for (const auto& [name, found] : {std::pair{"loss", loss},
                                    {"image", rows.image},
                                    {"text", rows.text},
                                    {"phenotype_logits", rows.phenotype_logits}}) {
    const double error = relative_error(found.detach(), golden.at(name));
    EXPECT_LT(error, kOutputTolerance) << name;
    greatest = std::max(greatest, error);
  }
  RecordProperty("outputs", str(greatest));
  RecordProperty("gradients", str(check_gradients(model, golden)));
  if (c.norm == BatchNormMode::kLocal) check_statistics(model, golden);
}

std::vector<Case> sweep() {
  std::vector<Case> cases;
  for (const char* model : {"merlin_tiny", "merlin_odd"})
    for (const BatchNormMode norm : {BatchNormMode::kFrozen, BatchNormMode::kLocal})
      for (const bool adapted : {false, true})
        for (const Recompute mode : {Recompute::kNone, Recompute::kBlocks, Recompute::kStages})
          cases.push_back({model, norm, adapted, mode});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Sweep, GradientsGolden, ::testing::ValuesIn(sweep()), name_of);

}  // namespace
}  // namespace triphase::models
