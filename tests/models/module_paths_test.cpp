// SPDX-License-Identifier: Apache-2.0
// Which modules a target names: ours, and peft's.
#include "models/module_paths.hpp"

#include "models/peft_config.hpp"
#include "tests/models/models_test_support.hpp"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace triphase::models {
namespace {

const std::string kQuery = "encode_text.text_encoder.encoder.layer.1.attention.self.query";
const std::string kConv = "encode_image.i3_resnet.layer3.5.conv2";

TEST(TargetPattern, APlainNameIsAPathOrItsEndAtADot) {
  for (const std::string& fits : {std::string("query"), std::string("self.query"), kQuery})
    EXPECT_TRUE(TargetPattern(fits).fits(kQuery)) << fits;
  for (const char* other : {"uery", "quer", "elf.query", "attention", "query_global", "Query"})
    EXPECT_FALSE(TargetPattern(other).fits(kQuery)) << other;
  EXPECT_FALSE(TargetPattern("query").fits(kQuery + "_global"));
  EXPECT_TRUE(TargetPattern("query").fits("query"));
  EXPECT_TRUE(TargetPattern("downsample.0").fits("encode_image.i3_resnet.layer1.0.downsample.0"));
  // A dot of a plain name is a dot.
  EXPECT_FALSE(TargetPattern("self.query").fits("a.selfxquery"));
}

TEST(TargetPattern, AnythingElseIsSearchedAsAnExpression) {
  EXPECT_TRUE(TargetPattern("layer[34]\\..*conv2$").fits(kConv));
  EXPECT_FALSE(TargetPattern("layer[12]\\..*conv2$").fits(kConv));
  EXPECT_TRUE(TargetPattern("conv[12]").fits(kConv)) << "found in the middle";
  EXPECT_FALSE(TargetPattern("^conv[12]").fits(kConv));
  triphase::test::expect_error<ConfigError>([] { const TargetPattern pattern("conv(2"); },
                                            ExitCode::kUsage, {"'conv(2'"});
}

TEST(TargetPattern, HostileExpressionsEndSoonWithAnError) {
  const std::string path = "encode_text." + std::string(5000, 'a') + ".query!";
  triphase::test::expect_error<ConfigError>([&] { (void)TargetPattern("(a+)+$").fits(path); },
                                            ExitCode::kUsage, {"'(a+)+$'", "simpler"});
  triphase::test::expect_error<ConfigError>(
      [&] { (void)TargetPattern("[" + std::string(1 << 20, 'a') + "]"); }, ExitCode::kUsage,
      {"1048578 bytes"});
  PeftConfig config;
  config.target_expression = "([a-z_.]+)+Z";
  triphase::test::expect_error<CheckpointError>([&] { (void)config.targets(path); },
                                                ExitCode::kBadData, {"target_modules", "simpler"});
}

TEST(ModulePaths, TheListHasEveryParameterOnceInTheModelsOrder) {
  TwoTower model = test::random_model(1);
  apply_adapters(model, plan_adapters(model, {.method = "peft"}), 1);
  const std::vector<ModuleEntry> entries = list_modules(*model);
  std::set<std::string> paths;
  std::int64_t listed = 0;
  std::int64_t adapted = 0;
  for (const ModuleEntry& entry : entries) {
    EXPECT_TRUE(paths.insert(entry.path).second) << entry.path;
    EXPECT_EQ(entry.path.find("lora_"), std::string::npos) << entry.path;
    EXPECT_GT(entry.num_parameters(), 0) << entry.path;
    listed += entry.num_parameters();
    if (!entry.is_adapted()) continue;
    ++adapted;
    EXPECT_TRUE(entry.can_adapt());
    EXPECT_EQ(entry.lora_a().size(0), entry.low_rank().rank);
    EXPECT_EQ(entry.lora_b().size(1), entry.low_rank().rank);
    EXPECT_EQ(entry.num_factors_per_rank() * entry.low_rank().rank,
              entry.lora_a().numel() + entry.lora_b().numel());
  }
  EXPECT_EQ(adapted, 4 + 4);
  std::int64_t base = 0;
  for (const auto& item : model->named_parameters())
    if (item.key().find("lora_") == std::string::npos) base += item.value().numel();
  EXPECT_EQ(listed, base);
  EXPECT_TRUE(paths.contains("")) << "the log-scale's owner";
  const auto position = [&](const std::string& path) {
    return std::find_if(entries.begin(), entries.end(),
                        [&](const ModuleEntry& entry) { return entry.path == path; }) -
           entries.begin();
  };
  EXPECT_LT(position("encode_image.i3_resnet.conv1"), position("encode_image.i3_resnet.bn1"));
  EXPECT_LT(position("encode_image.i3_resnet.bn1"), position("encode_text.linear_layer"));
  EXPECT_TRUE(
      entries[static_cast<std::size_t>(position("encode_image.i3_resnet.bn1"))].is_batch_norm());
  EXPECT_FALSE(
      entries[static_cast<std::size_t>(position("encode_image.i3_resnet.bn1"))].can_adapt());
}

TEST(ModulePaths, LastPartsAndWhatTheLossNeverReaches) {
  EXPECT_EQ(last_part(kConv), "conv2");
  EXPECT_EQ(last_part("conv2"), "conv2");
  EXPECT_EQ(last_part(""), "");
  for (const std::string& path : {kQuery + "_global", std::string("a.pooler.dense"),
                                  std::string("encode_image.i3_resnet.classifier")})
    EXPECT_TRUE(is_never_reached(path)) << path;
  for (const std::string& path : {kQuery, kConv, std::string("encode_text.linear_layer"),
                                  std::string("a.output.dense"), std::string("")})
    EXPECT_FALSE(is_never_reached(path)) << path;
}

TEST(PeftConfig, NamesFitByTheirEndAndAnExpressionFitsAsAWhole) {
  PeftConfig config;
  config.target_modules = {"query", "layer3.5.conv2"};
  EXPECT_TRUE(config.targets(kQuery));
  EXPECT_TRUE(config.targets(kConv));
  EXPECT_TRUE(config.targets("query"));
  EXPECT_FALSE(config.targets(kQuery + "_global"));
  EXPECT_FALSE(config.targets("a.xlayer3.5.conv2"));
  config.target_modules = {"quer."};
  EXPECT_FALSE(config.targets(kQuery)) << "names in a list are no expressions";
  for (const auto& [expression, fits] :
       std::vector<std::pair<std::string, bool>>{{"query", false},
                                                 {".*query", true},
                                                 {"encode_text\\..*\\.(query|value)", true},
                                                 {"encode_text", false},
                                                 {".*quer", false}}) {
    config.target_expression = expression;
    EXPECT_EQ(config.targets(kQuery), fits) << expression;
  }
  config.target_expression = "(";
  EXPECT_THROW((void)config.targets(kQuery), CheckpointError);
}

TEST(PeftConfig, TheFirstPatternThatFitsDecidesRankAndAlpha) {
  PeftConfig config;
  config.rank = 8;
  config.alpha = 16;
  config.rank_pattern = {{"layer.1.attention.self.query", 4}, {"query", 2}, {"layer[34]\\..*", 3}};
  config.alpha_pattern = {{".*conv2", 5.5}};
  EXPECT_EQ(config.rank_of(kQuery), 4);
  EXPECT_EQ(config.rank_of("encode_text.text_encoder.encoder.layer.0.attention.self.query"), 2);
  EXPECT_EQ(config.rank_of(kConv), 3);
  EXPECT_EQ(config.rank_of("a.key"), 8);
  EXPECT_EQ(config.alpha_of(kConv), 5.5);
  EXPECT_EQ(config.alpha_of(kQuery), 16);
  // Begins at a dot, as (.*\.)? says.
  config.rank_pattern = {{"ery", 2}};
  EXPECT_EQ(config.rank_of(kQuery), 8);
  // A name is an expression too: its dots are any character. Each as Python's re.match has it.
  for (const auto& [key, path, fits] :
       std::vector<std::tuple<std::string, std::string, bool>>{{"b.c", "a.bxc", true},
                                                               {"b.c", "a.b.c", true},
                                                               {"b.c", "axbxc", false},
                                                               {"a.b.c", "a.b.c", true},
                                                               {"x.a.b", "a.b", false},
                                                               {"", "a.", true},
                                                               {"", "a", false},
                                                               {"b|c", "a.c", true},
                                                               {"b|c", "a.bc", false},
                                                               {"(b)\\3", "a.bb", true},
                                                               {"b$", "a.b", true}}) {
    config.rank_pattern = {{key, 2}};
    EXPECT_EQ(config.rank_of(path) == 2, fits) << key << " " << path;
  }
}

TEST(PeftConfig, WhatIsWrittenIsReadBack) {
  const triphase::test::TemporaryFolder folder;
  PeftConfig config;
  config.rank = 3;
  config.alpha = 4.5;
  config.dropout = 0.25;
  config.rslora = true;
  config.target_modules = {"b", "a"};
  config.rank_pattern = {{"b", 5}, {"a", 6}};  // in this order
  config.alpha_pattern = {{"b", 1.5}};
  config.modules_to_save = {"head"};
  write_json(folder / "c.json", peft_config_json(config));
  const PeftConfig read = read_peft_config(folder / "c.json");
  EXPECT_EQ(read.rank, 3);
  EXPECT_EQ(read.alpha, 4.5);
  EXPECT_EQ(read.dropout, 0.25);
  EXPECT_TRUE(read.rslora);
  EXPECT_EQ(read.target_modules, config.target_modules);
  EXPECT_FALSE(read.target_expression.has_value());
  EXPECT_EQ(read.rank_pattern, config.rank_pattern);
  EXPECT_EQ(read.alpha_pattern, config.alpha_pattern);
  EXPECT_EQ(read.modules_to_save, config.modules_to_save);
  Json json = peft_config_json(config);
  json["target_modules"] = ".*query";
  write_json(folder / "c.json", json);
  EXPECT_EQ(read_peft_config(folder / "c.json").target_expression, ".*query");
}

}  // namespace
}  // namespace triphase::models
