// SPDX-License-Identifier: Apache-2.0
// Merlin in its full size: counts and names only, nothing is computed.
#include "tests/models/models_test_support.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace triphase::models {
namespace {

class FullSize : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model() = std::make_shared<TwoTower>(model_preset("merlin")); }
  static void TearDownTestSuite() { model().reset(); }
  static std::shared_ptr<TwoTower>& model() {
    static std::shared_ptr<TwoTower> shared;
    return shared;
  }
  static std::int64_t count(const std::string& prefix) {
    std::int64_t sum = 0;
    for (const auto& item : (*model())->named_parameters())
      if (item.key().starts_with(prefix)) sum += item.value().numel();
    return sum;
  }
};

TEST_F(FullSize, CountsAreMerlins) {
  EXPECT_EQ(count(""), 270'935'389);
  EXPECT_EQ(count("encode_image."), 121'882'204);
  EXPECT_EQ(count("encode_text."), 149'053'184);
  EXPECT_EQ(count("encode_image.i3_resnet.classifier."), 3'466'908);
  EXPECT_EQ(count("encode_image.i3_resnet.contrastive_head."), 1'049'088);
  EXPECT_EQ(count("encode_text.text_encoder.pooler."), 590'592);
  EXPECT_EQ(count("encode_text.text_encoder.embeddings."), 41'753'088);
  EXPECT_EQ(count("encode_text.text_encoder.encoder.layer.11."), 8'859'648);
  const NamedTensors state = base_state(*model());
  EXPECT_EQ(state.size(), 1208U);
  const auto with = [&](const std::string& prefix) {
    return std::count_if(state.begin(), state.end(),
                         [&](const auto& item) { return item.first.starts_with(prefix); });
  };
  EXPECT_EQ(with("encode_image.i3_resnet."), 934);
  EXPECT_EQ(with("encode_text.text_encoder."), 271);
  EXPECT_EQ(with("encode_text.linear_layer."), 2);
  EXPECT_EQ((*model())->image_tower()->num_features(), 2048);
}

TEST_F(FullSize, ShapesOfWellKnownNames) {
  const NamedTensors state = base_state(*model());
  const auto shape = [&](const std::string& name) -> std::vector<std::int64_t> {
    for (const auto& [key, tensor] : state)
      if (key == name) return tensor.sizes().vec();
    return {-1};
  };
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(shape("encode_image.i3_resnet.conv1.weight"), (Shape{64, 3, 3, 7, 7}));
  EXPECT_EQ(shape("encode_image.i3_resnet.layer3.35.conv2.weight"), (Shape{256, 256, 3, 3, 3}));
  EXPECT_EQ(shape("encode_image.i3_resnet.layer1.0.downsample.1.running_var"), (Shape{256}));
  EXPECT_EQ(shape("encode_image.i3_resnet.layer4.0.downsample.0.weight"),
            (Shape{2048, 1024, 1, 1, 1}));
  EXPECT_EQ(shape("encode_image.i3_resnet.classifier.weight"), (Shape{1692, 2048, 1, 1, 1}));
  EXPECT_EQ(shape("encode_text.text_encoder.embeddings.word_embeddings.weight"),
            (Shape{50265, 768}));
  EXPECT_EQ(shape("encode_text.text_encoder.embeddings.position_embeddings.weight"),
            (Shape{4098, 768}));
  EXPECT_EQ(shape("encode_text.text_encoder.encoder.layer.11.attention.self.value_global.bias"),
            (Shape{768}));
  EXPECT_EQ(shape("encode_text.linear_layer.weight"), (Shape{512, 768}));
  EXPECT_EQ(shape("logit_scale"), Shape{});
}

TEST_F(FullSize, PlansHaveTheWrittenPercentages) {
  AdaptOptions options{.method = "peft", .train_log_scale = false};
  const AdapterPlan plan = plan_adapters(*model(), options);
  EXPECT_EQ(plan.num_trainable, 2'975'744);
  EXPECT_EQ(plan.num_base_parameters, 270'935'389);
  EXPECT_NE(plan.table().find("\nadapters 2,975,744 of 270,935,389 (1.098 %)\nlog-scale fixed\n"),
            std::string::npos)
      << plan.table();
  options.train_log_scale = true;
  const AdapterPlan with_scale = plan_adapters(*model(), options);
  EXPECT_EQ(with_scale.num_trainable, 2'975'745);
  EXPECT_NE(with_scale.table().find(
                "\nadapters 2,975,744 of 270,935,389 (1.098 %)\nlog-scale 1, trained\n"),
            std::string::npos)
      << with_scale.table();
  // Every convolution but the heads, and the six linear layers that the loss reaches.
  options.train_log_scale = false;
  options.image = {.rank = 4, .targets = {"conv[123]$", "downsample.0"}};
  options.text = {.rank = 4, .targets = {"query", "key", "value", "dense"}};
  EXPECT_EQ(plan_adapters(*model(), options).num_trainable, 2'499'556);
  const AdapterPlan full = plan_adapters(*model(), {});
  EXPECT_EQ(full.num_trainable, 245'616'577);
  EXPECT_EQ(full.num_base_parameters - full.num_trainable, 25'318'812);
}

TEST(ModelSize, TheSmallModelIsAsSmallAsThePhantomNeeds) {
  TwoTower model(model_preset("merlin_small"));
  std::int64_t image = 0;
  std::int64_t text = 0;
  for (const auto& item : model->named_parameters())
    (item.key().starts_with("encode_image") ? image : text) += item.value().numel();
  EXPECT_GT(image, 850'000);
  EXPECT_LT(image, 1'000'000);
  EXPECT_LT(text, 400'000);
}

}  // namespace
}  // namespace triphase::models
