// SPDX-License-Identifier: Apache-2.0
// triphase weights convert and merge, and a run that starts from a torch.save file.
#include "models/weights.hpp"
#include "tests/launch/program_fixture.hpp"
#include "tests/models/models_test_support.hpp"
#include "tests/models/torch_file_builder.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
using models::NamedTensors;
using models::test::random_model;
using models::test::write_torch_file;

CommandResult convert(const fs::path& in, const fs::path& out, const std::string& more = "") {
  return triphase("weights convert " + in.string() + " --out " + out.string() + " " + more);
}

void expect_same(const NamedTensors& found, const NamedTensors& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].first, expected[i].first);
    EXPECT_TRUE(models::test::equal_bits(found[i].second, expected[i].second)) << found[i].first;
  }
}

/// Tensors whose name does not hold `word`.
NamedTensors without(const NamedTensors& tensors, const std::string& word) {
  NamedTensors rest;
  for (const auto& item : tensors)
    if (item.first.find(word) == std::string::npos) rest.push_back(item);
  return rest;
}

TEST(WeightsConvert, ATorchFileBecomesTheSameTensorsUnderPlainNames) {
  const TemporaryFolder folder;
  models::TwoTower model = random_model(1);
  const NamedTensors state = models::base_state(model);
  write_torch_file(folder / "in.pt", state, "module.model.");
  expect_outcome(convert(folder / "in.pt", folder / "plain"), 0,
                 {std::to_string(state.size()) + " tensors"});
  EXPECT_EQ(models::read_weights(folder / "plain").tensors[0].first,
            "module.model." + state[0].first);
  const std::string strip = "--strip-prefix module. --strip-prefix model. ";
  expect_outcome(convert(folder / "in.pt", folder / "out", strip + "--preset merlin_tiny"), 0, {});
  const models::WeightsFile found = models::read_weights(folder / "out");
  expect_same(found.tensors, state);
  EXPECT_EQ(found.metadata.at("format"), "pt");
  EXPECT_EQ(found.metadata.at("preset"), "merlin_tiny");
}

TEST(WeightsConvert, NamesAreComparedStrictlyWithThePreset) {
  const TemporaryFolder folder;
  models::TwoTower model = random_model(1);
  const NamedTensors state = models::base_state(model);
  NamedTensors wrong = without(state, "pooler");
  wrong.emplace_back("encode_image.surplus", at::ones({2}));
  write_torch_file(folder / "in.pt", wrong);
  const fs::path out = folder / "out";
  expect_outcome(convert(folder / "in.pt", out, "--preset merlin_tiny"), 65,
                 {"in.pt", "2 missing ('encode_text.text_encoder.pooler.dense.weight'",
                  "1 unexpected ('encode_image.surplus')"});
  expect_outcome(convert(folder / "in.pt", out, "--preset merlin_tiny --allow-missing pooler"), 65,
                 {"1 unexpected"});
  EXPECT_FALSE(fs::exists(out));
  write_torch_file(folder / "in.pt", without(state, "pooler"), "module.");
  expect_outcome(convert(folder / "in.pt", out, "--preset merlin_tiny"), 65,
                 {"missing", "unexpected", "--strip-prefix"});
  expect_outcome(
      convert(folder / "in.pt", out,
              "--preset merlin_tiny --strip-prefix module. --allow-missing '\\.pooler\\.'"),
      0, {"missing, as allowed: encode_text.text_encoder.pooler.dense.bias"});
  expect_same(models::read_weights(out).tensors, without(state, "pooler"));
  expect_outcome(convert(folder / "in.pt", out, "--preset merlin_small --strip-prefix module."), 65,
                 {"of another shape"});
}

TEST(WeightsConvert, FractionsTakeTheDtypeThatIsAskedFor) {
  const TemporaryFolder folder;
  models::TwoTower model = random_model(1);
  const NamedTensors state = models::base_state(model);
  write_torch_file(folder / "in.pt", state);
  for (const auto& [word, dtype] :
       std::vector<std::pair<std::string, at::ScalarType>>{{"bfloat16", at::kBFloat16},
                                                           {"float16", at::kHalf},
                                                           {"float64", at::kDouble},
                                                           {"float32", at::kFloat}}) {
    expect_outcome(convert(folder / "in.pt", folder / word, "--dtype " + word), 0, {});
    NamedTensors expected;
    for (const auto& [name, tensor] : state)
      expected.emplace_back(name, tensor.is_floating_point() ? tensor.to(dtype) : tensor);
    expect_same(models::read_weights(folder / word).tensors, expected);
  }
}

TEST(WeightsConvert, WrongOptionsAreUsageErrors) {
  const TemporaryFolder folder;
  const fs::path in = golden_folder() / "torch" / "parameters.pt";
  const fs::path out = folder / "out";
  expect_outcome(convert(in, out, "--dtype int8"), 64, {"int8", "bfloat16"});
  expect_outcome(convert(in, out, "--preset merlin_huge"), 64, {"merlin_huge", "merlin_tiny"});
  expect_outcome(convert(in, out, "--allow-missing pooler"), 64, {"--preset"});
  expect_outcome(convert(in, out, "--preset merlin_tiny --allow-missing '('"), 64, {"'('"});
  expect_outcome(convert(folder / "none.pt", out), 66, {"none.pt"});
  expect_outcome(triphase("weights merge --out x --base a --adapter b"), 64, {"--preset"});
  expect_outcome(
      triphase("weights merge --out x --base a --adapter b --preset merlin_tiny --config c"), 64,
      {"none of the other"});
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(WeightsMerge, ABaseFileAndAPeftFolderGiveTheMergedModel) {
  const TemporaryFolder folder;
  models::TwoTower model = random_model(1);
  write_torch_file(folder / "base.pt", models::base_state(model), "model.");
  const models::AdapterPlan plan = models::plan_adapters(model, {.method = "peft"});
  models::apply_adapters(model, plan, 1);
  models::test::fill_factors(model, 5);
  models::write_peft_folder(folder / "adapter", model, plan);
  expect_outcome(triphase("weights merge --base " + (folder / "base.pt").string() + " --adapter " +
                          (folder / "adapter").string() + " --preset merlin_tiny --out " +
                          (folder / "merged").string()),
                 0, {"merged"});
  const NamedTensors before = models::read_weights(folder / "base.pt").tensors;
  models::merge_adapters(model);
  const NamedTensors merged = models::read_weights(folder / "merged").tensors;
  expect_same(merged, models::base_state(model));
  std::size_t changed = 0;
  for (std::size_t i = 0; i < merged.size(); ++i)
    changed += at::equal(merged[i].second, before[i].second) ? 0U : 1U;
  EXPECT_EQ(changed, 8U);  // the adapted weights, each with two factors, and nothing else
}

TEST(WeightsConvert, ARunFromATorchFileIsTheRunFromSafetensors) {
  const TemporaryFolder folder;
  models::TwoTower model = random_model(1);
  const NamedTensors state = without(models::base_state(model), "pooler");
  write_torch_file(folder / "w.pt", state, "module.");
  models::write_safetensors(folder / "w.safetensors", state);
  std::vector<double> losses;
  for (const std::string name : {"w.pt", "w.safetensors"}) {
    const fs::path file = write_run_file(
        folder.path(), name,
        {{"model.weights", "\"" + (folder / name).string() + "\""}, {"schedule.max_steps", "2"}});
    expect_outcome(triphase("train --quiet --config " + file.string()), 65, {"missing", "pooler"});
    expect_outcome(triphase("train --quiet --config " + file.string() +
                            " --set 'model.allow_missing=[\"pooler\"]'"),
                   0, {});
    losses.push_back(read_metrics(folder.path() / "runs" / name).at(1).at("loss").get<double>());
  }
  EXPECT_EQ(losses[0], losses[1]);
}

}  // namespace
}  // namespace triphase::test
