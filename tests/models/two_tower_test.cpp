// SPDX-License-Identifier: Apache-2.0
#include "models/two_tower.hpp"

#include "tests/models/models_test_support.hpp"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <set>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::golden_model;
using test::Input;
using test::max_error;
using test::random_input;
using test::random_model;
using triphase::test::expect_error;

TEST(TwoTower, RowsHaveUnitLengthAndFloat32) {
  TwoTower model = random_model(1);
  const Input input = random_input(3, 20, 1);
  const Embeddings rows = model->forward(input.volumes, input.tokens, input.mask);
  for (const at::Tensor& x : {rows.image, rows.text}) {
    EXPECT_EQ(x.sizes(), at::IntArrayRef({3, 16}));
    EXPECT_EQ(x.scalar_type(), at::kFloat);
    EXPECT_LT(max_error(x.norm(2, 1), at::ones({3})), 1e-6);
  }
  EXPECT_FALSE(rows.phenotype_logits.defined());
  EXPECT_EQ(model->forward(input.volumes, input.tokens, input.mask, true).phenotype_logits.sizes(),
            at::IntArrayRef({3, 16}));
}

TEST(TwoTower, AnImageDoesNotDependOnItsBatch) {
  TwoTower model = random_model(2);
  model->to(at::kDouble);
  model->train();  // frozen statistics: the same as in eval mode
  const Input input = random_input(4, 12, 2);
  const at::Tensor volumes = input.volumes.to(at::kDouble);
  const at::Tensor together = model->encode_image_volumes(volumes).embedding;
  for (std::int64_t i = 0; i < 4; ++i)
    EXPECT_LT(
        max_error(model->encode_image_volumes(volumes.narrow(0, i, 1)).embedding[0], together[i]),
        1e-12);
}

TEST(TwoTower, PaddingChangesNoText) {
  TwoTower model = golden_model("merlin_tiny");
  model->to(at::kDouble);
  for (const std::int64_t length : {2, 5, 9, 30}) {
    const at::Tensor tokens = random_input(1, length, 3).tokens;
    const at::Tensor bare = model->encode_text_tokens(tokens, at::ones_like(tokens));
    for (const std::int64_t more : {1, 4, 40}) {
      const at::Tensor padded = at::constant_pad_nd(tokens, {0, more}, 1);
      const at::Tensor mask = at::constant_pad_nd(at::ones_like(tokens), {0, more}, 0);
      EXPECT_LT(max_error(model->encode_text_tokens(padded, mask), bare), 1e-12)
          << length << "+" << more;
    }
  }
}

TEST(TwoTower, TheClsVectorSeesAsFarAsLayersTimesHalfTheWindow) {
  TwoTower model = golden_model("merlin_tiny");  // two layers, window 8: eight tokens far
  model->to(at::kDouble);
  const at::Tensor tokens = random_input(1, 30, 4).tokens;
  const at::Tensor mask = at::ones_like(tokens);
  const at::Tensor before = model->encode_text_tokens(tokens, mask);
  for (const std::int64_t position : {8, 9}) {
    at::Tensor changed = tokens.clone();
    changed[0][position] = tokens[0][position].item<std::int64_t>() == 5 ? 6 : 5;
    const bool same = equal_bits(model->encode_text_tokens(changed, mask), before);
    EXPECT_EQ(same, position > 8) << position;
  }
}

TEST(TwoTower, OnlyPaddingRowsAndUnusedParametersGetNoGradient) {
  TwoTower model = golden_model("merlin_tiny");
  const Input input = random_input(2, 20, 5);
  const test::TensorMap gradients = test::loss_gradients(model, input);
  const auto used_word = input.tokens[0][1].item<std::int64_t>();
  for (const auto& item : model->named_parameters()) {
    const std::string& name = item.key();
    const bool unused = name.find("_global.") != std::string::npos ||
                        name.find("pooler.") != std::string::npos ||
                        name.find("classifier.") != std::string::npos;
    EXPECT_EQ(gradients.contains(name), !unused) << name;
  }
  for (const char* table : {"word", "position"}) {
    const at::Tensor gradient =
        gradients.at(str("encode_text.text_encoder.embeddings.", table, "_embeddings.weight"));
    EXPECT_EQ(gradient[1].abs().max().item<float>(), 0) << table;
    EXPECT_GT(gradient[table[0] == 'w' ? used_word : 2].abs().max().item<float>(), 0) << table;
  }
}

TEST(TwoTower, Bfloat16AutocastStaysCloseAndEndsInFloat32) {
  TwoTower model = golden_model("merlin_tiny");
  const Input input = random_input(2, 20, 6);
  const at::NoGradGuard no_grad;
  const Embeddings wide = model->forward(input.volumes, input.tokens, input.mask, true);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Embeddings narrow = model->forward(input.volumes, input.tokens, input.mask, true);
  at::autocast::clear_cache();
  EXPECT_TRUE(
      at::autocast::is_autocast_enabled(at::kCPU));  // the heads switch it off for themselves only
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(narrow.image.scalar_type(), at::kFloat);
  EXPECT_EQ(narrow.text.scalar_type(), at::kFloat);
  EXPECT_EQ(narrow.phenotype_logits.scalar_type(), at::kFloat);
  // bfloat16 keeps 8 bits (4e-3); about 15 layers one after another.
  EXPECT_LT(max_error(narrow.image, wide.image), 3e-2);
  EXPECT_LT(max_error(narrow.text, wide.text), 3e-2);
  EXPECT_GT(max_error(narrow.image, wide.image), 0);  // it was on
}

TEST(TwoTower, MatricesStoredInBfloat16WorkUnderAutocast) {
  TwoTower model = golden_model("merlin_tiny");
  const Input input = random_input(2, 20, 7);
  const at::NoGradGuard no_grad;
  const Embeddings wide = model->forward(input.volumes, input.tokens, input.mask);
  apply_adapters(model, plan_adapters(model, {.method = "peft", .train_log_scale = false}), 1);
  for (auto& item : model->named_parameters())
    if (!item.value().requires_grad() && item.value().dim() >= 2)
      item.value().set_data(item.value().to(at::kBFloat16));
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Embeddings narrow = model->forward(input.volumes, input.tokens, input.mask);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_LT(max_error(narrow.image, wide.image), 3e-2);
  EXPECT_LT(max_error(narrow.text, wide.text), 3e-2);
}

TEST(TwoTower, ChannelsLastChangesRoundingOnly) {
  TwoTower model = golden_model("merlin_tiny");
  model->to(at::kDouble);
  Input input = random_input(2, 20, 8);
  input.volumes = input.volumes.to(at::kDouble);
  const test::TensorMap plain = test::loss_gradients(model, input);
  for (auto& item : model->named_parameters())
    if (item.value().dim() == 5)
      item.value().set_data(item.value().contiguous(at::MemoryFormat::ChannelsLast3d));
  const test::TensorMap last = test::loss_gradients(model, input);
  EXPECT_EQ(plain.size(), last.size());
  for (const auto& [name, gradient] : plain)
    EXPECT_LT(max_error(last.at(name), gradient),
              1e-12 + 1e-10 * gradient.abs().max().item<double>())
        << name;
}

TEST(TwoTower, WeightsDependOnSeedAndNameAlone) {
  TwoTower one = random_model(5);
  TwoTowerOptions other_options = model_preset("merlin_tiny");
  other_options.text.num_layers = 3;
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  TwoTower two = random_model(5, other_options);
  at::set_num_threads(threads);
  TwoTower three = random_model(6);
  const auto theirs = two->named_parameters();
  const auto others = three->named_parameters();
  std::set<float> firsts;
  for (const auto& item : one->named_parameters()) {
    EXPECT_TRUE(equal_bits(item.value(), theirs[item.key()])) << item.key();
    const bool drawn = item.value().std().item<float>() > 0;
    if (!drawn || item.value().numel() < 8) continue;
    EXPECT_FALSE(at::equal(item.value(), others[item.key()])) << item.key();
    EXPECT_TRUE(firsts.insert(item.value().view({-1})[-1].item<float>()).second) << item.key();
  }
  EXPECT_GT(firsts.size(), 30U);
}

TEST(TwoTower, WeightsHaveTheSpreadThatIsWritten) {
  TwoTower model = random_model(9, model_preset("merlin_small"));
  const auto named = model->named_parameters();
  const auto sigma = [&](const std::string& name) { return named[name].std().item<double>(); };
  // 27,648 draws and more: the spread of a spread is under 0.5 %; 4 % is eight of them.
  const std::string conv = "encode_image.i3_resnet.layer2.0.conv2.weight";
  EXPECT_NEAR(sigma(conv) / (1 / std::sqrt(32 * 27 * 3.0)), 1, 0.04);
  EXPECT_LE(named[conv].abs().max().item<double>(), 1 / std::sqrt(32 * 27.0));
  EXPECT_NEAR(sigma("encode_text.text_encoder.embeddings.word_embeddings.weight") / 0.02, 1, 0.04);
  const std::string head = "encode_image.i3_resnet.contrastive_head.weight";
  EXPECT_NEAR(sigma(head) / (1 / std::sqrt(512.0 * 3)), 1, 0.04);
  EXPECT_LE(named[head].abs().max().item<double>(), 1 / std::sqrt(512.0));
  EXPECT_EQ(named["encode_text.text_encoder.embeddings.word_embeddings.weight"][1]
                .abs()
                .max()
                .item<float>(),
            0);
  EXPECT_EQ(named["encode_image.i3_resnet.bn1.weight"].min().item<float>(), 1);
  EXPECT_EQ(
      named["encode_text.text_encoder.encoder.layer.0.output.dense.bias"].abs().max().item<float>(),
      0);
}

TEST(TwoTower, InitialisingLeavesAdaptersAlone) {
  TwoTower model = random_model(5);
  apply_adapters(model, plan_adapters(model, {.method = "peft"}), 1);
  test::fill_factors(model, 3);
  const NamedTensors before = adapter_state(model);
  std::vector<at::Tensor> copies;
  for (const auto& item : before) copies.push_back(item.second.clone());
  initialise_weights(model, 6);
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(at::equal(before[i].second, copies[i]));
}

TEST(TwoTower, BadInputIsRefusedWithItsKind) {
  TwoTower model = random_model(1);
  const Input input = random_input(2, 6, 1);
  const auto text = [&](const at::Tensor& tokens, const at::Tensor& mask) {
    return [&model, tokens, mask] { (void)model->encode_text_tokens(tokens, mask); };
  };
  expect_error<DataError>(text(at::full({1, 4}, 1024, at::kLong), at::ones({1, 4}, at::kLong)),
                          ExitCode::kBadData, {"1024", "vocabulary"});
  expect_error<DataError>(text(at::full({1, 4}, -1, at::kLong), at::ones({1, 4}, at::kLong)),
                          ExitCode::kBadData, {"-1"});
  expect_error<DataError>(text(at::full({1, 129}, 3, at::kLong), at::ones({1, 129}, at::kLong)),
                          ExitCode::kBadData, {"129", "128", "max_text_tokens"});
  expect_error<DataError>(text(input.tokens, input.mask.narrow(1, 0, 3)), ExitCode::kBadData,
                          {"[2, 3]"});
  expect_error<DataError>(
      [&] {
        (void)model->encode_image_volumes(at::zeros({2, 3, 8, 8, 8}));
      },
      ExitCode::kBadData, {"[2, 3, 8, 8, 8]"});
  expect_error<ConfigError>([] { (void)model_preset("merlin_huge"); }, ExitCode::kUsage,
                            {"merlin_huge", "merlin_small"});
}

}  // namespace
}  // namespace triphase::models
