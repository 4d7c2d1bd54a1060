// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/optimizer.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

#include "base/json.hpp"
#include "models/weights.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::trainer {
namespace {

using Named = std::vector<std::pair<std::string, at::Tensor>>;

class Golden {
 public:
  Golden() : file_(models::read_safetensors(test::golden_folder() / "training/adamw.safetensors")) {
    for (const auto& [name, tensor] : file_.tensors) tensors_[name] = tensor;
  }
  [[nodiscard]] const at::Tensor& at(const std::string& name) const { return tensors_.at(name); }
  [[nodiscard]] std::vector<std::string> parameters() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : file_.tensors)
      if (name.starts_with("initial.")) names.push_back(name.substr(8));
    return names;
  }

 private:
  models::WeightsFile file_;
  std::map<std::string, at::Tensor> tensors_;
};

/// The generator's cases (tests/reference/make_training.py).
std::map<std::string, OptimizerOptions> golden_cases() {
  OptimizerOptions plain;
  plain.lr = 1e-2;
  OptimizerOptions groups = plain;
  groups.betas = {0.85, 0.95};
  groups.eps = 1e-6;
  groups.weight_decay = 0.2;
  groups.grad_clip_norm = 2.5;
  groups.lora_plus_ratio = 4;
  groups.lr_image = 3e-2;
  groups.lr_text = 1e-3;
  groups.lr_heads = 7e-3;
  groups.lr_scale = 5e-2;
  OptimizerOptions no_clip = plain;
  no_clip.grad_clip_norm = 0;
  no_clip.weight_decay = 0;
  no_clip.lr = 0.3;
  return {{"plain", plain}, {"groups", groups}, {"no_clip", no_clip}};
}

Named make_parameters(const Golden& golden, at::ScalarType dtype) {
  Named parameters;
  for (const std::string& name : golden.parameters())
    parameters.emplace_back(name, golden.at("initial." + name).clone().to(dtype).requires_grad_());
  return parameters;
}

/// Tolerance: both sides round each of 20 updates of size about lr in the dtype's precision.
void compare_with_golden(at::ScalarType dtype, double tolerance) {
  const Golden golden;
  for (const auto& [name, options] : golden_cases()) {
    SCOPED_TRACE(name);
    Named parameters = make_parameters(golden, dtype);
    Optimizer optimizer(parameters, options);
    for (std::int64_t step = 0; step < 20; ++step) {
      for (auto& [parameter_name, tensor] : parameters)
        tensor.mutable_grad() = golden.at("gradients." + parameter_name)[step].clone().to(dtype);
      const UpdateReport report = optimizer.update(golden.at("lr_factors")[step].item<double>());
      EXPECT_FALSE(report.is_skipped);
      const double norm = golden.at(name + ".norms")[step].item<double>();
      EXPECT_NEAR(report.grad_norm, norm, tolerance * norm);
      if (step != 0 && step != 4 && step != 19) continue;
      for (const auto& [parameter_name, tensor] : parameters) {
        const at::Tensor& expected = golden.at(str(name, ".after_", step + 1, ".", parameter_name));
        EXPECT_TRUE(at::allclose(tensor.detach().to(at::kDouble), expected, tolerance, tolerance))
            << parameter_name << " after " << step + 1;
      }
    }
    for (const auto& [state_name, tensor] : optimizer.state()) {
      if (state_name == "step") continue;
      EXPECT_TRUE(at::allclose(tensor.to(at::kDouble), golden.at(name + "." + state_name),
                               tolerance, tolerance))
          << state_name;
    }
  }
}

TEST(Optimizer, IsTorchsAdamWInFloat64) { compare_with_golden(at::kDouble, 1e-12); }
TEST(Optimizer, IsTorchsAdamWInFloat32) { compare_with_golden(at::kFloat, 2e-5); }

TEST(Optimizer, IsTheFormulaInAnyMemoryLayout) {
  for (const bool is_channels_last : {false, true}) {
    const auto format =
        is_channels_last ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::Contiguous;
    at::Tensor weight = at::randn({8, 4, 3, 3, 3}, at::kDouble).contiguous(format).requires_grad_();
    at::Tensor expected = weight.detach().clone();
    at::Tensor m = at::zeros_like(expected);
    at::Tensor v = at::zeros_like(expected);
    OptimizerOptions options;
    options.grad_clip_norm = 0;
    Optimizer optimizer({{"encode_image.i3_resnet.conv1.weight", weight}}, options);
    for (int t = 1; t <= 5; ++t) {
      const at::Tensor gradient = at::randn_like(expected);
      weight.mutable_grad() = gradient.clone();
      optimizer.update(0.5);
      const double lr = options.lr * 0.5;
      expected = expected * (1 - lr * options.weight_decay);
      m = 0.9 * m + 0.1 * gradient;
      v = 0.999 * v + 0.001 * gradient * gradient;
      const at::Tensor denominator = (v / (1 - std::pow(0.999, t))).sqrt() + options.eps;
      expected = expected - lr * (m / (1 - std::pow(0.9, t))) / denominator;
      EXPECT_TRUE(at::allclose(weight.detach(), expected, 1e-13, 1e-13)) << t;
    }
  }
}

TEST(Optimizer, RefusesAGradientOfAnotherLayout) {
  at::Tensor weight =
      at::randn({8, 4, 3, 3, 3}).contiguous(at::MemoryFormat::ChannelsLast3d).requires_grad_();
  Optimizer optimizer({{"encode_image.x.weight", weight}}, {});
  weight.mutable_grad() = at::ones({8, 4, 3, 3, 3});
  test::expect_error<InternalError>([&] { optimizer.update(1); }, ExitCode::kInternal,
                                    {"encode_image.x.weight"});
  weight.mutable_grad() = at::Tensor();
  test::expect_error<InternalError>([&] { optimizer.update(1); }, ExitCode::kInternal,
                                    {"no gradient"});
}

TEST(Optimizer, DecaysWeightsOfTwoDimensionsAndNothingElse) {
  const Golden golden;
  const Named parameters = make_parameters(golden, at::kDouble);
  OptimizerOptions options;
  options.weight_decay = 0.5;
  options.lora_plus_ratio = 3;
  const Optimizer optimizer(parameters, options);
  std::size_t num_members = 0;
  for (const OptimizerGroup& group : optimizer.groups()) {
    for (const std::int64_t i : group.members) {
      const auto& [name, tensor] = parameters[static_cast<std::size_t>(i)];
      EXPECT_EQ(group.weight_decay, tensor.dim() >= 2 ? 0.5 : 0.0) << name;
      EXPECT_DOUBLE_EQ(group.lr, options.lr * (name.find("lora_B") != std::string::npos ? 3 : 1))
          << name;
      ++num_members;
    }
  }
  EXPECT_EQ(num_members, parameters.size());
}

TEST(Optimizer, ChangesNothingWhenTheNormIsNotFinite) {
  const Golden golden;
  Named parameters = make_parameters(golden, at::kFloat);
  Optimizer optimizer(parameters, {});
  for (auto& [name, tensor] : parameters) tensor.mutable_grad() = at::ones_like(tensor.detach());
  optimizer.update(1);
  Named before;
  for (const auto& [name, tensor] : parameters) before.emplace_back(name, tensor.detach().clone());
  const models::NamedTensors state_before = optimizer.state();
  std::vector<at::Tensor> moments;
  for (const auto& [name, tensor] : state_before) moments.push_back(tensor.clone());
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    parameters[1].second.mutable_grad().fill_(bad);
    EXPECT_TRUE(optimizer.update(1).is_skipped);
    for (std::size_t i = 0; i < before.size(); ++i)
      EXPECT_TRUE(at::equal(parameters[i].second.detach(), before[i].second));
    const models::NamedTensors state = optimizer.state();
    for (std::size_t i = 0; i < state.size(); ++i)
      EXPECT_TRUE(at::equal(state[i].second, moments[i]));
  }
  EXPECT_EQ(optimizer.num_updates(), 1);
}

TEST(Optimizer, StateLoadsBackToTheSameBits) {
  const Golden golden;
  Named first = make_parameters(golden, at::kFloat);
  Named second = make_parameters(golden, at::kFloat);
  Optimizer a(first, {});
  Optimizer b(second, {});
  const auto step = [&](Optimizer& optimizer, Named& parameters, std::int64_t i) {
    for (auto& [name, tensor] : parameters)
      tensor.mutable_grad() = golden.at("gradients." + name)[i].clone().to(at::kFloat);
    optimizer.update(1);
  };
  for (std::int64_t i = 0; i < 5; ++i) step(a, first, i);
  {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < first.size(); ++i) second[i].second.copy_(first[i].second);
  }
  b.load_state(a.state(), "optimizer.safetensors");
  for (std::int64_t i = 5; i < 10; ++i) {
    step(a, first, i);
    step(b, second, i);
  }
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_TRUE(at::equal(first[i].second, second[i].second)) << first[i].first;

  models::NamedTensors wrong = a.state();
  wrong.pop_back();
  test::expect_error<CheckpointError>([&] { b.load_state(wrong, "file"); }, ExitCode::kBadData,
                                      {"file", "exp_avg_sq.logit_scale"});
  wrong = a.state();
  wrong.emplace_back("exp_avg.other", at::zeros({1}));
  test::expect_error<CheckpointError>([&] { b.load_state(wrong, "file"); }, ExitCode::kBadData,
                                      {"exp_avg.other"});
}

TEST(ParameterPart, SortsMerlinsNames) {
  EXPECT_EQ(parameter_part("logit_scale"), "scale");
  EXPECT_EQ(parameter_part("logit_bias"), "scale");
  EXPECT_EQ(parameter_part("encode_image.i3_resnet.contrastive_head.weight"), "heads");
  EXPECT_EQ(parameter_part("encode_image.i3_resnet.classifier.bias"), "heads");
  EXPECT_EQ(parameter_part("encode_text.linear_layer.weight"), "heads");
  EXPECT_EQ(parameter_part("encode_text.text_encoder.encoder.layer.0.output.dense.weight"), "text");
  EXPECT_EQ(parameter_part("encode_image.i3_resnet.layer1.0.conv2.lora_A.weight"), "image");
}

}  // namespace
}  // namespace triphase::trainer
