// SPDX-License-Identifier: Apache-2.0
#include "tests/models/models_test_support.hpp"

#include "base/json.hpp"
#include "models/module_paths.hpp"
#include "models/peft_config.hpp"

#include <gtest/gtest.h>

#include <set>

namespace triphase::models {
namespace {

using test::equal_bits;
using test::random_model;
using triphase::test::expect_error;
using triphase::test::TemporaryFolder;

AdaptOptions different_towers() {
  AdaptOptions options{.method = "peft"};
  options.image = {.rank = 3, .alpha = 6, .targets = {"conv1", "conv2"}};
  options.text = {.rank = 2, .alpha = 5, .targets = {"query", "value"}};
  return options;
}

AdapterPlan adapt(TwoTower& model, const AdaptOptions& options) {
  const AdapterPlan plan = plan_adapters(model, options);
  apply_adapters(model, plan, 3);
  test::fill_factors(model, 20);
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : trainable_parameters(model))
    if (name.find(".lora_") == std::string::npos) at::Tensor(parameter).add_(0.25);
  return plan;
}

/// A folder written from one model and read into a fresh one with the same base weights.
void round_trip(const AdaptOptions& options) {
  const TemporaryFolder folder;
  TwoTower one = random_model(4);
  const AdapterPlan plan = adapt(one, options);
  write_peft_folder(folder / "adapter", one, plan);
  TwoTower two = random_model(4);
  read_peft_folder(folder / "adapter", two);
  const auto theirs = one->named_parameters();
  const auto ours = two->named_parameters();
  ASSERT_EQ(ours.size(), theirs.size());
  for (const auto& item : ours)
    EXPECT_TRUE(equal_bits(item.value(), theirs[item.key()])) << item.key();
  const test::Input input = test::random_input(2, 12, 1);
  const at::NoGradGuard no_grad;
  const Embeddings a = one->forward(input.volumes, input.tokens, input.mask);
  const Embeddings b = two->forward(input.volumes, input.tokens, input.mask);
  // The scale goes through a decimal alpha.
  EXPECT_LT(test::max_error(a.image, b.image), 1e-6);
  EXPECT_LT(test::max_error(a.text, b.text), 1e-6);
}

TEST(PeftFolder, WhatIsWrittenIsReadBack) {
  round_trip({.method = "peft"});
  round_trip(different_towers());
}

TEST(PeftFolder, HeadsNormsAndLogScaleTravelToo) {
  AdaptOptions options = different_towers();
  options.train_heads = options.train_layer_norms = options.train_batch_norms = true;
  round_trip(options);
}

TEST(PeftFolder, RsloraInOneTowerOrBothKeepsTheScale) {
  AdaptOptions options = different_towers();
  options.text.rslora = true;
  round_trip(options);
  options.image.rslora = true;
  round_trip(options);
}

AdaptOptions with_patterns() {
  AdaptOptions options = different_towers();
  options.image.rank_pattern = {{"layer[34]\\..*conv2$", 5}, {"conv1", 2}};
  options.image.alpha_pattern = {{"layer4.0.conv2", 1.5}};
  options.text.alpha_pattern = {{"layer.1.attention.self.query", 32}};
  return options;
}

TEST(PeftFolder, PatternsTravelInEveryMixtureOfScales) {
  AdaptOptions options = with_patterns();
  round_trip(options);
  options.text.rslora = true;
  round_trip(options);
  options.image.rslora = true;
  round_trip(options);
}

/// What the written patterns give by peft's own rule is what the model has.
TEST(PeftFolder, WrittenPatternsMeanTheModelsRanksAndScales) {
  for (const bool rslora : {false, true}) {
    const TemporaryFolder folder;
    AdaptOptions options = with_patterns();
    options.image.rslora = options.text.rslora = rslora;
    TwoTower model = random_model(4);
    write_peft_folder(folder / "a", model, adapt(model, options));
    const PeftConfig config = read_peft_config(folder / "a" / "adapter_config.json");
    EXPECT_FALSE(config.rank_pattern.empty());
    EXPECT_FALSE(config.alpha_pattern.empty());
    std::set<std::int64_t> ranks;
    for (const ModuleEntry& module : list_modules(*model)) {
      EXPECT_EQ(config.targets(module.path), module.is_adapted()) << module.path;
      if (!module.is_adapted()) continue;
      const LowRankOptions expected = module.low_rank();
      ranks.insert(expected.rank);
      EXPECT_EQ(config.rank_of(module.path), expected.rank) << module.path;
      EXPECT_EQ(config.alpha_of(module.path), expected.alpha) << module.path;
      EXPECT_EQ(config.rslora, expected.rslora);
    }
    EXPECT_EQ(ranks, (std::set<std::int64_t>{2, 3, 5}));
    // Into a model that is adapted by the same options, and not into one without the patterns.
    TwoTower same = random_model(4);
    apply_adapters(same, plan_adapters(same, options), 9);
    read_peft_folder(folder / "a", same);
    TwoTower other = random_model(4);
    apply_adapters(other, plan_adapters(other, different_towers()), 9);
    expect_error<CheckpointError>([&] { read_peft_folder(folder / "a", other); },
                                  ExitCode::kBadData, {"rank 2", "rank 3"});
  }
}

TEST(PeftFolder, TheConfigHasPeftsKeys) {
  const TemporaryFolder folder;
  TwoTower model = random_model(4);
  write_peft_folder(folder / "adapter", model, adapt(model, different_towers()));
  const Json json = read_json(folder / "adapter" / "adapter_config.json");
  for (const char* key : {"peft_type",
                          "r",
                          "lora_alpha",
                          "lora_dropout",
                          "bias",
                          "fan_in_fan_out",
                          "init_lora_weights",
                          "inference_mode",
                          "use_rslora",
                          "use_dora",
                          "rank_pattern",
                          "alpha_pattern",
                          "modules_to_save",
                          "layers_to_transform",
                          "layers_pattern",
                          "base_model_name_or_path",
                          "task_type",
                          "revision",
                          "auto_mapping",
                          "target_modules"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["r"], 3);
  EXPECT_EQ(json["lora_alpha"].dump(), "6");
  EXPECT_EQ(json["target_modules"].size(), 5 + 4 + 4U);
  EXPECT_EQ(json["rank_pattern"]["encode_text.text_encoder.encoder.layer.0.attention.self.query"],
            2);
  EXPECT_EQ(json["alpha_pattern"].size(), 4U);
  const WeightsFile file = read_safetensors(folder / "adapter" / "adapter_model.safetensors");
  EXPECT_EQ(file.metadata.at("format"), "pt");
  EXPECT_EQ(file.tensors[0].first, "base_model.model.encode_image.i3_resnet.conv1.lora_A.weight");
}

TEST(PeftFolder, PeftsOwnFoldersAreWrittenAgainWithTheSameTensors) {
  for (const std::string name : {"plain", "rslora", "heads"}) {
    const TemporaryFolder folder;
    TwoTower model = test::golden_model("merlin_tiny");
    const auto golden = triphase::test::golden_folder() / "peft" / name;
    read_peft_folder(golden, model);
    AdaptOptions options{.method = "peft", .train_heads = name == "heads"};
    write_peft_folder(folder / "again", model, plan_adapters(model, options));
    test::TensorMap expected;
    for (const auto& [key, tensor] : read_safetensors(golden / "adapter_model.safetensors").tensors)
      expected[key] = tensor;
    const auto found = read_safetensors(folder / "again" / "adapter_model.safetensors").tensors;
    EXPECT_EQ(found.size(), expected.size());
    for (const auto& [key, tensor] : found) {
      ASSERT_TRUE(expected.contains(key)) << key;
      EXPECT_TRUE(equal_bits(tensor, expected.at(key))) << key;
    }
    TwoTower again = test::golden_model("merlin_tiny");
    read_peft_folder(folder / "again", again);
    for (const auto& item : again->named_modules())
      if (const auto* conv = item.value()->as<AdaptedConv3dImpl>();
          conv != nullptr && conv->is_adapted()) {
        const auto before = model->named_modules()[item.key()];
        EXPECT_NEAR(conv->low_rank().scale(), before->as<AdaptedConv3dImpl>()->low_rank().scale(),
                    1e-12);
      }
  }
}

TEST(PeftFolder, LoadsIntoAnAdaptedModelOnlyWhenItIsTheSame) {
  const TemporaryFolder folder;
  TwoTower one = random_model(4);
  write_peft_folder(folder / "adapter", one, adapt(one, different_towers()));
  TwoTower two = random_model(4);
  apply_adapters(two, plan_adapters(two, different_towers()), 99);
  read_peft_folder(folder / "adapter", two);
  EXPECT_TRUE(equal_bits(adapter_state(two)[0].second, adapter_state(one)[0].second));
  const auto refused = [&](auto change, std::initializer_list<std::string> words) {
    AdaptOptions options = different_towers();
    change(options);
    TwoTower other = random_model(4);
    apply_adapters(other, plan_adapters(other, options), 1);
    expect_error<CheckpointError>([&] { read_peft_folder(folder / "adapter", other); },
                                  ExitCode::kBadData, words);
  };
  refused([](auto& o) { o.text.rank = 4; }, {"rank 2", "rank 4"});
  refused([](auto& o) { o.text.alpha = 7; }, {"scale"});
  refused([](auto& o) { o.text.targets.push_back("key"); }, {"no factors for", "key"});
}

/// A folder of the small model with one thing changed in its config.
void expect_config_refused(const char* key, const Json& value,
                           std::initializer_list<std::string> words) {
  const TemporaryFolder folder;
  TwoTower model = random_model(4);
  write_peft_folder(folder / "a", model, adapt(model, different_towers()));
  Json json = read_json(folder / "a" / "adapter_config.json");
  json[key] = value;
  write_json(folder / "a" / "adapter_config.json", json);
  TwoTower other = random_model(4);
  expect_error<CheckpointError>([&] { read_peft_folder(folder / "a", other); }, ExitCode::kBadData,
                                words);
  EXPECT_TRUE(adapter_state(other).empty());  // nothing was touched
}

TEST(PeftFolder, VariantsThatAreNotComputedAreRefused) {
  expect_config_refused("peft_type", "IA3", {"peft_type"});
  expect_config_refused("use_dora", true, {"use_dora"});
  expect_config_refused("fan_in_fan_out", true, {"fan_in_fan_out"});
  expect_config_refused("bias", "all", {"bias"});
  expect_config_refused("layers_to_transform", {1, 2}, {"layers_to_transform"});
  expect_config_refused("r", 0, {"'r'"});
  expect_config_refused("r", "8", {"'r'"});
  expect_config_refused("r", 5, {"expected", "rank_pattern"});
  expect_config_refused("lora_alpha", -1, {"lora_alpha"});
  expect_config_refused("lora_dropout", 1.5, {"lora_dropout"});
  expect_config_refused("use_rslora", 1, {"use_rslora"});
  expect_config_refused("rank_pattern", {1}, {"rank_pattern"});
  expect_config_refused("rank_pattern", {{"(", 2}}, {"regular expression"});
  expect_config_refused("rank_pattern", {{"(a+)+$|" + std::string(1 << 20, 'a'), 2}},
                        {"1048592 bytes", "rank_pattern"});
  expect_config_refused("alpha_pattern", {{"([a-z_.0-9]+)+[!?]", 2}}, {"alpha_pattern", "simpler"});
  Json many = Json::object();
  for (int i = 0; i < 1001; ++i) many["[a-z]" + std::to_string(i)] = 2;
  expect_config_refused("rank_pattern", many, {"1001 regular expressions"});
  expect_config_refused("target_modules", nullptr, {"target_modules"});
  expect_config_refused("target_modules", {"key"}, {"no factors for", "key"});
  expect_config_refused("target_modules", {1}, {"target_modules"});
}

TEST(PeftFolder, UnknownKeysOfNewerVersionsAreTolerated) {
  const TemporaryFolder folder;
  TwoTower model = random_model(4);
  write_peft_folder(folder / "a", model, adapt(model, different_towers()));
  Json json = read_json(folder / "a" / "adapter_config.json");
  json["peft_version"] = "9.9";
  json["exclude_modules"] = nullptr;
  json["something_new"] = {{"a", 1}};
  write_json(folder / "a" / "adapter_config.json", json);
  TwoTower other = random_model(4);
  read_peft_folder(folder / "a", other);
  EXPECT_EQ(adapter_state(other).size(), 26U);
}

TEST(PeftFolder, WhatAFolderExcludesNeedsNoFactors) {
  const TemporaryFolder folder;
  TwoTower model = random_model(4);
  write_peft_folder(folder / "a", model, adapt(model, different_towers()));
  NamedTensors tensors;
  for (const auto& [name, tensor] :
       read_safetensors(folder / "a/adapter_model.safetensors").tensors)
    if (name.find("i3_resnet.conv1.") == std::string::npos)
      tensors.emplace_back(name, tensor.clone());
  write_safetensors(folder / "a/adapter_model.safetensors", tensors);
  Json json = read_json(folder / "a" / "adapter_config.json");
  for (const Json& excluded : {Json::array({"i3_resnet.conv1"}), Json(".*i3_resnet\\.conv1")}) {
    json["exclude_modules"] = excluded;
    write_json(folder / "a" / "adapter_config.json", json);
    TwoTower other = random_model(4);
    read_peft_folder(folder / "a", other);
    EXPECT_EQ(adapter_state(other).size(), 24U) << excluded;
  }
}

TEST(PeftFolder, TensorsThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  TwoTower model = random_model(4);
  write_peft_folder(folder / "a", model, adapt(model, different_towers()));
  const auto path = folder / "a" / "adapter_model.safetensors";
  NamedTensors original;
  for (const auto& [name, tensor] : read_safetensors(path).tensors)
    original.emplace_back(name, tensor.clone());
  const auto refused = [&](auto change, std::map<std::string, std::string> metadata,
                           std::initializer_list<std::string> words) {
    NamedTensors tensors = original;
    change(tensors);
    write_safetensors(path, tensors, metadata);
    TwoTower other = random_model(4);
    expect_error<CheckpointError>([&] { read_peft_folder(folder / "a", other); },
                                  ExitCode::kBadData, words);
    EXPECT_TRUE(adapter_state(other).empty());
  };
  refused([](auto& t) { t.erase(t.begin()); }, {}, {"only one", "conv1"});
  refused([](auto& t) { t.erase(t.begin(), t.begin() + 2); }, {}, {"no factors for", "conv1"});
  refused([](auto& t) { t.clear(); }, {}, {"no factors"});
  refused(
      [](auto& t) { t.emplace_back("base_model.model.encode_audio.lora_A.weight", at::ones({1})); },
      {}, {"encode_audio", "model.preset"});
  refused(
      [](auto& t) {
        t.emplace_back("base_model.model.encode_text.linear_layer.weight", at::ones({1}));
      },
      {}, {"linear_layer", "modules_to_save"});
  refused([](auto& t) { t[0].second = t[0].second.to(at::kInt); }, {}, {"fractions"});
  refused([](auto&) {}, {{"logit_scale", "much"}}, {"logit_scale"});
  std::filesystem::remove(path);
  TwoTower other = random_model(4);
  expect_error<CheckpointError>([&] { read_peft_folder(folder / "a", other); },
                                ExitCode::kMissingInput, {"adapter_model"});
  expect_error<CheckpointError>([&] { read_peft_folder(folder / "b", other); },
                                ExitCode::kMissingInput, {"adapter_config"});
}

TEST(PeftFolder, AModelWithoutAdaptersIsNotWritten) {
  const TemporaryFolder folder;
  TwoTower model = random_model(4);
  expect_error<ConfigError>(
      [&] { write_peft_folder(folder / "a", model, plan_adapters(model, {})); }, ExitCode::kUsage,
      {"no adapters"});
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

}  // namespace
}  // namespace triphase::models
