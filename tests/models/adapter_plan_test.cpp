// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_plan.hpp"

#include "models/module_paths.hpp"
#include "tests/models/models_test_support.hpp"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <map>
#include <set>
#include <vector>

namespace triphase::models {
namespace {

using test::Input;
using test::max_error;
using test::random_input;
using test::random_model;
using triphase::test::expect_error;

std::set<std::string> trainable_names(TwoTower& model) {
  std::set<std::string> names;
  for (const auto& [name, parameter] : trainable_parameters(model)) names.insert(name);
  return names;
}

std::set<std::string> adapt(TwoTower& model, const AdaptOptions& options) {
  apply_adapters(model, plan_adapters(model, options), 3);
  return trainable_names(model);
}

bool any_has(const std::set<std::string>& names, const std::string& part) {
  for (const std::string& name : names)
    if (name.find(part) != std::string::npos) return true;
  return false;
}

TEST(AdapterPlan, PeftTrainsFactorsOfTheTargetsAndNothingElse) {
  TwoTower model = random_model(1);
  const auto names = adapt(model, {.method = "peft", .train_log_scale = false});
  EXPECT_EQ(names.size(), 2 * 4 + 2 * 4U);  // four conv2; query and value of two layers
  for (const std::string& name : names) EXPECT_NE(name.find(".lora_"), std::string::npos) << name;
  EXPECT_FALSE(any_has(names, "_global"));
  for (const auto& item : model->named_parameters())
    EXPECT_EQ(item.value().requires_grad(), names.contains(item.key())) << item.key();
}

TEST(AdapterPlan, EachSwitchAddsItsOwnParameters) {
  const AdaptOptions bare{.method = "peft", .train_log_scale = false};
  const auto added = [&](AdaptOptions options) {
    TwoTower one = random_model(1);
    TwoTower two = random_model(1);
    const auto before = adapt(one, bare);
    std::set<std::string> more;
    for (const std::string& name : adapt(two, options))
      if (!before.contains(name)) more.insert(name);
    return more;
  };
  auto options = bare;
  options.train_heads = true;
  EXPECT_EQ(added(options), (std::set<std::string>{"encode_image.i3_resnet.contrastive_head.weight",
                                                   "encode_image.i3_resnet.contrastive_head.bias",
                                                   "encode_text.linear_layer.weight",
                                                   "encode_text.linear_layer.bias"}));
  options = bare;
  options.train_layer_norms = true;
  EXPECT_EQ(added(options).size(), 2 * 5U);  // of the embeddings and two in each of two layers
  options = bare;
  options.train_batch_norms = true;
  EXPECT_EQ(added(options).size(), 2 * (1 + 4 * 4U));
  options = bare;
  options.train_log_scale = true;
  EXPECT_EQ(added(options), std::set<std::string>{"logit_scale"});
  options = bare;
  options.train_phenotype_head = true;
  EXPECT_EQ(added(options), (std::set<std::string>{"encode_image.i3_resnet.classifier.weight",
                                                   "encode_image.i3_resnet.classifier.bias"}));
}

TEST(AdapterPlan, FullTrainsExactlyWhatTheLossReaches) {
  TwoTower model = random_model(1);
  const auto names = adapt(model, {});
  TwoTower other = random_model(1);
  std::set<std::string> reached;
  for (const auto& [name, gradient] : test::loss_gradients(other, random_input(2, 12, 1)))
    reached.insert(name);
  EXPECT_EQ(names, reached);
  const AdapterPlan plan = plan_adapters(model, {});
  EXPECT_EQ(
      plan.num_base_parameters - plan.num_trainable,
      2 * 3 * (32 * 32 + 32) + (32 * 32 + 32) + (128 * 16 + 16));  // *_global, pooler, classifier
}

TEST(AdapterPlan, CountsAreThoseOfTheAdaptedModel) {
  AdaptOptions options{.method = "peft"};
  options.image = {.rank = 3, .targets = {"conv1", "layer[34]\\..*conv3$", "downsample.0"}};
  options.text = {.rank = 5, .targets = {"dense"}};
  TwoTower model = random_model(1);
  std::int64_t base = 0;
  for (const at::Tensor& parameter : model->parameters()) base += parameter.numel();
  const AdapterPlan plan = plan_adapters(model, options);
  apply_adapters(model, plan, 1);
  std::int64_t trainable = 0;
  for (const auto& [name, parameter] : trainable_parameters(model)) trainable += parameter.numel();
  EXPECT_EQ(plan.num_trainable, trainable);
  EXPECT_EQ(plan.num_base_parameters, base);
  const AdapterPlan again = plan_adapters(model, options);  // an adapted model plans the same
  EXPECT_EQ(again.num_trainable, trainable);
  EXPECT_EQ(again.num_base_parameters, base);
  EXPECT_FALSE(
      any_has(trainable_names(model), "pooler"));  // "dense" fits it, the loss does not reach it
}

TEST(AdapterPlan, AdaptingChangesNoEmbeddingAndMergingKeepsThem) {
  TwoTower model = random_model(2);
  model->to(at::kDouble);
  Input input = random_input(2, 12, 2);
  input.volumes = input.volumes.to(at::kDouble);
  const at::NoGradGuard no_grad;
  const auto rows = [&] { return model->forward(input.volumes, input.tokens, input.mask); };
  const Embeddings before = rows();
  adapt(model, {.method = "peft"});
  EXPECT_EQ(max_error(rows().image, before.image), 0);
  EXPECT_EQ(max_error(rows().text, before.text), 0);
  test::fill_factors(model, 11);
  const Embeddings two_paths = rows();
  EXPECT_GT(max_error(two_paths.image, before.image), 1e-3);
  EXPECT_GT(max_error(two_paths.text, before.text), 1e-3);
  merge_adapters(model);
  EXPECT_TRUE(adapter_state(model).empty());
  EXPECT_LT(max_error(rows().image, two_paths.image), 1e-12);
  EXPECT_LT(max_error(rows().text, two_paths.text), 1e-12);
}

/// The leaves that backward from `loss` would make a gradient for.
std::set<const void*> leaves_of(const at::Tensor& loss) {
  std::set<const void*> leaves;
  std::set<torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> open{loss.grad_fn().get()};
  while (!open.empty()) {
    torch::autograd::Node* node = open.back();
    open.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    if (auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node))
      leaves.insert(leaf->variable.unsafeGetTensorImpl());
    for (const torch::autograd::Edge& edge : node->next_edges())
      open.push_back(edge.function.get());
  }
  return leaves;
}

// Convolutions and products ask a kernel for the gradients of the inputs with an edge in the graph.
TEST(AdapterPlan, BackwardMakesNoGradientForFrozenWeights) {
  const Input input = random_input(2, 12, 2);
  for (const char* execution : {"two_path", "merged"})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlocks, Recompute::kStages}) {
      TwoTower model = random_model(2);
      adapt(model, {.method = "peft", .execution = execution});
      model->train();
      model->image_tower()->set_recompute(recompute);
      model->text_tower()->set_recompute(recompute);
      const Embeddings rows = model->forward(input.volumes, input.tokens, input.mask);
      std::set<const void*> trained{model->log_scale().unsafeGetTensorImpl()};
      for (const auto& item : model->named_parameters())
        if (item.key().find(".lora_") != std::string::npos)
          trained.insert(item.value().unsafeGetTensorImpl());
      EXPECT_EQ(leaves_of(test::contrastive_loss(rows, model->log_scale())), trained) << execution;
    }
}

TEST(AdapterPlan, MergedExecutionGivesTheGradientsOfTwoPaths) {
  Input input = random_input(3, 12, 2);
  input.volumes = input.volumes.to(at::kDouble);
  std::vector<test::TensorMap> gradients;
  for (const char* execution : {"two_path", "merged"}) {
    TwoTower model = random_model(2);
    model->to(at::kDouble);
    adapt(model, {.method = "peft", .execution = execution});
    test::fill_factors(model, 11);
    gradients.push_back(test::loss_gradients(model, input));
  }
  ASSERT_EQ(gradients[1].size(), gradients[0].size());
  for (const auto& [name, gradient] : gradients[0])
    EXPECT_LT(test::relative_error(gradients[1].at(name), gradient), 1e-11) << name;
}

TEST(AdapterPlan, UnmergingGivesTheModelBackAndNothingIsSavedInBetween) {
  TwoTower model = random_model(2);
  adapt(model, {.method = "peft"});
  test::fill_factors(model, 11);
  const Input input = random_input(2, 12, 2);
  const at::NoGradGuard no_grad;
  const auto rows = [&] { return model->forward(input.volumes, input.tokens, input.mask); };
  const Embeddings two_paths = rows();
  merge_adapters_keeping_factors(model);
  EXPECT_LT(max_error(rows().image, two_paths.image), 1e-5);  // float32, another order
  EXPECT_LT(max_error(rows().text, two_paths.text), 1e-5);
  EXPECT_THROW((void)adapter_state(model), InternalError);
  unmerge_adapters(model);
  EXPECT_LT(max_error(rows().image, two_paths.image), 1e-5);
  EXPECT_LT(max_error(rows().text, two_paths.text), 1e-5);
  EXPECT_FALSE(adapter_state(model).empty());
}

TEST(AdapterPlan, AMergedModelCanBeAdaptedAgain) {
  TwoTower model = random_model(2);
  const AdaptOptions options{.method = "peft"};
  const auto first = adapt(model, options);
  expect_error<ConfigError>([&] { adapt(model, options); }, ExitCode::kUsage, {"conv2", "Merge"});
  merge_adapters(model);
  EXPECT_EQ(adapt(model, options), first);
  merge_adapters(model);
  const auto full = adapt(model, {});
  EXPECT_TRUE(full.contains("encode_image.i3_resnet.layer1.0.conv2.weight"));
}

TEST(AdapterPlan, FactorsDependOnSeedAndPathAlone) {
  TwoTower one = random_model(2);
  TwoTower two = random_model(2);
  adapt(one, {.method = "peft"});
  AdaptOptions wider{.method = "peft"};
  wider.image.targets = {"conv1", "conv2", "conv3"};
  adapt(two, wider);
  const auto theirs = two->named_parameters();
  for (const auto& [name, factor] : adapter_state(one))
    if (name.find("conv2") != std::string::npos) {
      EXPECT_TRUE(at::equal(factor, theirs[name])) << name;
    }
}

TEST(AdapterPlan, RankZeroLeavesATowerFrozen) {
  TwoTower model = random_model(2);
  AdaptOptions options{.method = "peft"};
  options.text.rank = 0;
  EXPECT_FALSE(any_has(adapt(model, options), "encode_text"));
}

TEST(AdapterPlan, BadOptionsAreRefusedWithWhatWouldDo) {
  TwoTower model = random_model(2);
  const auto plan = [&](auto change) {
    return [&model, change] {
      AdaptOptions options{.method = "peft"};
      change(options);
      (void)plan_adapters(model, options);
    };
  };
  expect_error<ConfigError>(plan([](auto& o) { o.method = "lora"; }), ExitCode::kUsage,
                            {"lora", "peft"});
  expect_error<ConfigError>(plan([](auto& o) { o.execution = "fused"; }), ExitCode::kUsage,
                            {"fused", "merged"});
  expect_error<ConfigError>(plan([](auto& o) { o.text.targets = {"querry"}; }), ExitCode::kUsage,
                            {"adapt.text", "querry", "'query'"});
  expect_error<ConfigError>(plan([](auto& o) { o.image.targets = {"query"}; }), ExitCode::kUsage,
                            {"adapt.image", "conv2"});
  expect_error<ConfigError>(plan([](auto& o) { o.image.targets = {"bn1"}; }), ExitCode::kUsage,
                            {"bn1", "no convolution"});
  expect_error<ConfigError>(plan([](auto& o) { o.text.targets = {"query_global"}; }),
                            ExitCode::kUsage, {"query_global", "never reaches"});
  expect_error<ConfigError>(plan([](auto& o) { o.image.targets = {"conv(2"}; }), ExitCode::kUsage,
                            {"conv(2"});
  expect_error<ConfigError>(plan([](auto& o) { o.image.rank = -1; }), ExitCode::kUsage,
                            {"adapt.image.rank"});
  expect_error<ConfigError>(plan([](auto& o) { o.text.alpha = 0; }), ExitCode::kUsage,
                            {"adapt.text.alpha"});
  expect_error<ConfigError>(plan([](auto& o) { o.text.dropout = 1; }), ExitCode::kUsage,
                            {"dropout"});
  expect_error<ConfigError>(plan([](auto& o) { o.image.targets = {}; }), ExitCode::kUsage,
                            {"targets"});
  expect_error<ConfigError>(plan([](auto& o) {
                              o.train_heads = true;
                              o.image.targets = {"contrastive_head"};
                            }),
                            ExitCode::kUsage, {"contrastive_head", "both"});
  expect_error<ConfigError>(plan([](auto& o) {
                              o.image.rank = o.text.rank = 0;
                              o.train_log_scale = false;
                            }),
                            ExitCode::kUsage, {"nothing would train"});
}

/// Module path -> (rank, alpha) of every adapter in the model.
std::map<std::string, std::pair<std::int64_t, double>> adapters_of(TwoTower& model) {
  std::map<std::string, std::pair<std::int64_t, double>> found;
  for (const ModuleEntry& module : list_modules(*model))
    if (module.is_adapted()) found[module.path] = {module.low_rank().rank, module.low_rank().alpha};
  return found;
}

TEST(AdapterPlan, TheFirstPatternThatFitsDecidesRankAndAlpha) {
  AdaptOptions options{.method = "peft"};
  options.image = {.rank = 3, .alpha = 6, .targets = {"conv1", "conv2"}};
  options.image.rank_pattern = {{"layer3.0.conv2", 7}, {"layer[34]\\..*conv2$", 5}, {"conv1", 2}};
  options.image.alpha_pattern = {{"conv2", 1.5}};
  options.text = {.rank = 4, .alpha = 8, .targets = {"query", "value"}};
  options.text.alpha_pattern = {{"layer.1.attention.self.query", 32}};
  TwoTower model = random_model(1);
  const AdapterPlan plan = plan_adapters(model, options);
  apply_adapters(model, plan, 1);
  const auto found = adapters_of(model);
  const std::string image = "encode_image.i3_resnet.";
  const std::string text = "encode_text.text_encoder.encoder.";
  using Pair = std::pair<std::int64_t, double>;
  EXPECT_EQ(found.at(image + "layer3.0.conv2"), Pair(7, 1.5));
  EXPECT_EQ(found.at(image + "layer4.0.conv2"), Pair(5, 1.5));
  EXPECT_EQ(found.at(image + "layer1.0.conv2"), Pair(3, 1.5));
  EXPECT_EQ(found.at(image + "layer1.0.conv1"), Pair(2, 6));
  EXPECT_EQ(found.at(image + "conv1"), Pair(2, 6));
  EXPECT_EQ(found.at(text + "layer.0.attention.self.query"), Pair(4, 8));
  EXPECT_EQ(found.at(text + "layer.1.attention.self.query"), Pair(4, 32));
  std::int64_t trainable = 0;
  for (const auto& [name, parameter] : trainable_parameters(model)) trainable += parameter.numel();
  EXPECT_EQ(plan.num_trainable, trainable);
  for (const AdapterPlanRow& row : plan.rows) {
    if (row.part != "adapted") continue;
    EXPECT_EQ(Pair(row.rank, row.alpha), found.at(row.module)) << row.module;
  }
}

TEST(AdapterPlan, PatternsThatDecideNothingAreRefused) {
  TwoTower model = random_model(2);
  const auto refused = [&](auto change, std::initializer_list<std::string> words) {
    AdaptOptions options{.method = "peft"};
    change(options);
    expect_error<ConfigError>([&] { (void)plan_adapters(model, options); }, ExitCode::kUsage,
                              words);
  };
  // A module of the tower, but no target; one of the other tower; one of neither.
  for (const char* pattern : {"conv1", "query", "conv7", "layer9\\..*"}) {
    refused(
        [&](auto& o) {
          o.image.rank_pattern = {{pattern, 4}};
        },
        {"adapt.image.rank_pattern", pattern, "none of the tower's targets"});
    refused(
        [&](auto& o) {
          o.image.alpha_pattern = {{pattern, 4}};
        },
        {"adapt.image.alpha_pattern", pattern});
  }
  refused(
      [](auto& o) {
        o.text.rank_pattern = {{"query", 4}, {"layer.1.attention.self.query", 2}};
      },
      {"adapt.text.rank_pattern", "layer.1.attention.self.query", "earlier pattern"});
  refused([](auto& o) { o.text.rank_pattern = {{"(", 4}}; }, {"'('"});
  refused([](auto& o) { o.text.rank_pattern = {{"query", 0}}; }, {"query", "rank 0"});
  refused([](auto& o) { o.text.alpha_pattern = {{"query", 0}}; }, {"query", "alpha 0"});
  refused(
      [](auto& o) {
        o.text.rank = 0;
        o.text.rank_pattern = {{"query", 4}};
      },
      {"adapt.text.", "rank is 0"});
}

TEST(AdapterPlan, TheTableJoinsRowsAndNamesTheDenominator) {
  TwoTower model = random_model(2);
  AdaptOptions options{.method = "peft"};
  const AdapterPlan plan = plan_adapters(model, options);
  const std::string table = plan.table();
  for (const char* part :
       {"encode_image.i3_resnet.layer*.*.conv2", "encoder.layer.*.attention.self.query",
        "logit_scale", "\nlog-scale 1, trained\n", "\nadapters ", "unused", " %)\n"})
    EXPECT_NE(table.find(part), std::string::npos) << part << "\n" << table;
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 11) << table;
  EXPECT_EQ(table.find("\nweights "), std::string::npos) << table;
  const std::string full = plan_adapters(model, {}).table();
  EXPECT_EQ(std::count(full.begin(), full.end(), '\n'), 8) << full;
  EXPECT_NE(full.find("\nweights "), std::string::npos) << full;
  EXPECT_EQ(full.find("\nadapters "), std::string::npos) << full;
  options.train_log_scale = false;
  options.image.rank_pattern = {{"layer4\\.", 2}};  // another rank is another row
  const std::string fixed = plan_adapters(model, options).table();
  EXPECT_NE(fixed.find("\nlog-scale fixed\n"), std::string::npos) << fixed;
  EXPECT_EQ(std::count(fixed.begin(), fixed.end(), '\n'), 12) << fixed;
  model->set_logit_bias(true);
  const AdapterPlan biased = plan_adapters(model, options);
  EXPECT_NE(biased.table().find("\nlog-scale fixed\nlogit bias 1, trained\n"), std::string::npos)
      << biased.table();
  EXPECT_EQ(biased.num_base_parameters, plan.num_base_parameters + 1);
}

TEST(AdapterPlan, TheLogitBiasTrainsWhetherTheLogScaleDoesOrNot) {
  for (const bool trains_scale : {true, false}) {
    for (const char* method : {"full", "peft"}) {
      TwoTower model = random_model(2);
      model->set_logit_bias(true);
      apply_adapters(model,
                     plan_adapters(model, {.method = method, .train_log_scale = trains_scale}), 0);
      std::set<std::string> names;
      for (const auto& [name, tensor] : trainable_parameters(model)) names.insert(name);
      EXPECT_TRUE(names.contains("logit_bias"));
      EXPECT_EQ(names.contains("logit_scale"), trains_scale);
      model->set_logit_bias(false);
      EXPECT_FALSE(model->named_parameters().contains("logit_bias"));
    }
  }
}

}  // namespace
}  // namespace triphase::models
