// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

using test::equal_bits;
using test::random_model;
using triphase::test::expect_error;
using triphase::test::TemporaryFolder;

NamedTensors copied(const NamedTensors& tensors) {
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors) copies.emplace_back(name, tensor.clone());
  return copies;
}

void expect_same(const NamedTensors& found, const NamedTensors& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].first, expected[i].first);
    EXPECT_TRUE(equal_bits(found[i].second, expected[i].second)) << found[i].first;
  }
}

TEST(LoadWeights, NamesAreThoseOfMerlinsStateDict) {
  TwoTower model = test::golden_model("merlin_odd");
  const test::TensorMap golden = test::read_golden("towers/merlin_odd_weights");
  const NamedTensors state = base_state(model);
  EXPECT_EQ(state.size(), golden.size());
  for (const auto& [name, tensor] : state) {
    ASSERT_TRUE(golden.contains(name)) << name;
    EXPECT_TRUE(equal_bits(tensor, golden.at(name))) << name;
  }
}

TEST(LoadWeights, SavedAndLoadedWeightsAreEqualToTheBit) {
  const TemporaryFolder folder;
  TwoTower one = random_model(1);
  write_safetensors(folder / "model.safetensors", base_state(one));
  for (const std::string& weights :
       {folder.path().string(), (folder / "model.safetensors").string()}) {
    TwoTower two = random_model(2);
    load_weights(two, weights, 0);
    expect_same(base_state(two), base_state(one));
  }
  TwoTower three = random_model(2);
  load_weights(three, "random", 1);
  expect_same(base_state(three), base_state(one));
}

TEST(LoadWeights, EveryNameThatDiffersIsNamed) {
  TwoTower model = random_model(1);
  NamedTensors state = base_state(model);
  NamedTensors wrong;
  for (std::size_t i = 0; i < state.size(); ++i)
    if (i % 2 == 0)
      wrong.emplace_back("surplus." + state[i].first, state[i].second);
    else
      wrong.push_back(state[i]);
  try {
    static_cast<void>(fit_weights(model, wrong, "x"));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const CheckpointError& error) {
    const std::string text = error.what();
    for (std::size_t i = 0; i < state.size(); i += 2) {
      EXPECT_NE(text.find("'" + state[i].first + "'"), std::string::npos) << state[i].first;
      EXPECT_NE(text.find("'surplus." + state[i].first + "'"), std::string::npos);
    }
  }
  // A hostile file's names do not make a message without end.
  NamedTensors many;
  for (int i = 0; i < 3000; ++i) many.emplace_back(str(i, std::string(1000, 'n')), state[0].second);
  expect_error<CheckpointError>([&] { (void)fit_weights(model, many, "x"); }, ExitCode::kBadData,
                                {"3000 unexpected", "more: see triphase weights show"});
}

TEST(LoadWeights, PrefixesOfWrappersAreRemovedAndOldBuffersTolerated) {
  TwoTower one = random_model(1);
  NamedTensors wrapped;
  for (const auto& [name, tensor] : base_state(one))
    wrapped.emplace_back("module.model." + name, tensor);
  wrapped.emplace_back("model.encode_text.text_encoder.embeddings.position_ids", at::arange(130));
  TwoTower two = random_model(2);
  load_state(two, wrapped, "x");
  expect_same(base_state(two), base_state(one));
  wrapped.emplace_back("model." + wrapped[0].first, wrapped[0].second);
  expect_error<CheckpointError>([&] { load_state(two, wrapped, "x"); }, ExitCode::kBadData,
                                {"twice"});
}

TEST(LoadWeights, OtherFloatsAreConvertedIntegersAreNot) {
  TwoTower one = random_model(1);
  NamedTensors narrow;
  for (const auto& [name, tensor] : base_state(one))
    narrow.emplace_back(name, tensor.is_floating_point() ? tensor.to(at::kDouble) : tensor);
  TwoTower two = random_model(2);
  load_state(two, narrow, "x");
  expect_same(base_state(two), base_state(one));
  for (auto& [name, tensor] : narrow)
    if (name == "logit_scale") tensor = at::ones({}, at::kLong);
  expect_error<CheckpointError>([&] { load_state(two, narrow, "x"); }, ExitCode::kBadData,
                                {"logit_scale", "Long"});
}

TEST(LoadWeights, DifferencesAreListedAndNothingIsCopied) {
  TwoTower one = random_model(1);
  NamedTensors tensors = copied(base_state(one));
  tensors[0].second = at::zeros({1, 2, 3, 4, 5});
  const std::string missing = tensors.back().first;
  tensors.back().first = "encode_image.surplus";
  TwoTower two = random_model(2);
  const NamedTensors before = copied(base_state(two));
  expect_error<CheckpointError>(
      [&] { load_state(two, tensors, "file.safetensors"); }, ExitCode::kBadData,
      {"file.safetensors", "1 missing ('" + missing + "')", "1 unexpected ('encode_image.surplus')",
       "[1, 2, 3, 4, 5]", "model.preset"});
  expect_same(base_state(two), before);
}

TEST(LoadWeights, AllowedNamesMayBeMissingAndKeepTheirValues) {
  TwoTower one = random_model(1);
  NamedTensors tensors;
  for (const auto& [name, tensor] : base_state(one))
    if (name.find("pooler") == std::string::npos) tensors.emplace_back(name, tensor);
  TwoTower two = random_model(2);
  const at::Tensor pooler =
      two->named_parameters()["encode_text.text_encoder.pooler.dense.weight"].clone();
  EXPECT_THROW(load_state(two, tensors, "x"), CheckpointError);
  load_state(two, tensors, "x", {.allow_missing = {"\\.pooler\\."}});
  EXPECT_TRUE(
      equal_bits(two->named_parameters()["encode_text.text_encoder.pooler.dense.weight"], pooler));
  EXPECT_THROW(load_state(two, tensors, "x", {.allow_missing = {"("}}), ConfigError);
  // Hostile ones: what backtracks without end, and what is too long.
  for (const std::string& hostile :
       {std::string("([a-z_.0-9]|[a-z])+[!?]"), std::string(70'000, 'a')})
    EXPECT_THROW(load_state(two, tensors, "x", {.allow_missing = {hostile}}), ConfigError)
        << hostile.substr(0, 40);
}

TEST(LoadWeights, WhatAFileMayLackIsTheSameForEverySeed) {
  const TemporaryFolder folder;
  TwoTower one = random_model(1);
  NamedTensors tensors;
  for (const auto& [name, tensor] : base_state(one))
    if (name.find("pooler") == std::string::npos) tensors.emplace_back(name, tensor);
  write_safetensors(folder / "x.safetensors", tensors);
  const LoadOptions options{.allow_missing = {"pooler"}};
  TwoTower two = random_model(2);
  TwoTower three = random_model(3);
  load_weights(two, (folder / "x.safetensors").string(), 7, options);
  load_weights(three, (folder / "x.safetensors").string(), 7, options);
  expect_same(base_state(two), base_state(three));
  EXPECT_THROW(load_weights(two, (folder / "x.safetensors").string(), 7), CheckpointError);
  EXPECT_EQ(fit_weights(two, tensors, "x", options).missing.size(), 2U);
}

TEST(LoadWeights, EmptyExpressionsWouldFitAllAndAreRefused) {
  expect_error<ConfigError>([] { check_expressions({"a", ""}); }, ExitCode::kUsage, {"empty"});
  expect_error<ConfigError>([] { check_expressions({"("}); }, ExitCode::kUsage, {"'('"});
}

TEST(LoadWeights, WrappedNamesThatWereNotAskedOffAreHintedAt) {
  TwoTower one = random_model(1);
  NamedTensors wrapped;
  for (const auto& [name, tensor] : base_state(one)) wrapped.emplace_back("module." + name, tensor);
  expect_error<CheckpointError>(
      [&] { (void)fit_weights(one, wrapped, "x", {.strip_prefixes = {}, .allow_missing = {}}); },
      ExitCode::kBadData, {"missing", "unexpected ('module.", "--strip-prefix"});
  EXPECT_EQ(without_prefixes(wrapped, {"module."}, "x")[0].first, base_state(one)[0].first);
}

TEST(LoadWeights, AdaptersAreLeftOutOfTheBaseAndLoadedWhenTheFileHasThem) {
  TwoTower one = random_model(1);
  apply_adapters(one, plan_adapters(one, {.method = "peft"}), 1);
  test::fill_factors(one, 5);
  TwoTower bare = random_model(1);
  EXPECT_EQ(base_state(one).size(), base_state(bare).size());
  NamedTensors all = base_state(one);
  const NamedTensors factors = adapter_state(one);
  EXPECT_EQ(factors.size(), 16U);
  all.insert(all.end(), factors.begin(), factors.end());
  TwoTower two = random_model(2);
  EXPECT_THROW(load_state(two, all, "x"), CheckpointError);  // no adapters to load them into
  apply_adapters(two, plan_adapters(two, {.method = "peft"}), 2);
  load_state(two, base_state(one), "x");
  EXPECT_FALSE(at::equal(adapter_state(two)[0].second, factors[0].second));
  load_state(two, all, "x");
  expect_same(adapter_state(two), factors);
  TwoTower three = random_model(3);
  apply_adapters(three, plan_adapters(three, {.method = "peft"}), 3);
  load_adapter_state(three, factors, "x");
  expect_same(adapter_state(three), factors);
  expect_error<CheckpointError>([&] { load_adapter_state(three, {factors[0]}, "x"); },
                                ExitCode::kBadData, {"15 missing"});
}

TEST(LoadWeights, WhatIsNoWeightsFileIsRefused) {
  const TemporaryFolder folder;
  TwoTower model = random_model(1);
  const auto load = [&](const std::string& weights) {
    return [&model, weights] { load_weights(model, weights, 0); };
  };
  expect_error<ConfigError>(load(""), ExitCode::kUsage, {"model.weights"});
  expect_error<CheckpointError>(load("merlin.pt"), ExitCode::kMissingInput, {"merlin.pt"});
  expect_error<ConfigError>(load("rnadom"), ExitCode::kUsage, {"rnadom", "'random'"});
  expect_error<CheckpointError>(load((folder / "none.safetensors").string()),
                                ExitCode::kMissingInput, {"none"});
  expect_error<CheckpointError>(load(folder.path().string()), ExitCode::kMissingInput,
                                {"model.safetensors"});
  expect_error<CheckpointError>(load((folder / "none").string()), ExitCode::kMissingInput,
                                {"none", "Check the path"});
  triphase::test::write_text(folder / "merlin.pt", "PK");
  expect_error<CheckpointError>(load((folder / "merlin.pt").string()), ExitCode::kBadData,
                                {"merlin.pt", "cut short"});
}

}  // namespace
}  // namespace triphase::models
