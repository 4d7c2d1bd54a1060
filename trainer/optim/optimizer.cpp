// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/optimizer.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <tuple>

#include "trainer/optim/gradient_norm.hpp"

namespace triphase::trainer {
namespace {

double part_lr(const OptimizerOptions& options, std::string_view part) {
  const double own = part == "image"   ? options.lr_image
                     : part == "text"  ? options.lr_text
                     : part == "heads" ? options.lr_heads
                                       : options.lr_scale;
  return own > 0 ? own : options.lr;
}

bool is_b_factor(std::string_view name) { return name.find(".lora_B") != std::string_view::npos; }

std::vector<OptimizerGroup> make_groups(
    const std::vector<std::pair<std::string, at::Tensor>>& parameters,
    const OptimizerOptions& options) {
  std::vector<OptimizerGroup> groups;
  std::map<std::tuple<std::string, bool, bool>, std::size_t> places;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor] = parameters[i];
    const std::string part(parameter_part(name));
    const bool is_b = is_b_factor(name);
    const bool decays = tensor.dim() >= 2;
    const auto [place, is_new] = places.try_emplace({part, is_b, decays}, groups.size());
    if (is_new) {
      OptimizerGroup group;
      group.name = part + (is_b ? " B factors" : "") + (decays ? "" : " without decay");
      group.lr = part_lr(options, part) * (is_b ? options.lora_plus_ratio : 1);
      group.weight_decay = decays ? options.weight_decay : 0;
      groups.push_back(std::move(group));
    }
    groups[place->second].members.push_back(static_cast<std::int64_t>(i));
  }
  return groups;
}

/// Strides are equal where the size is not 1: the fused kernel walks memory, not indices, and would
/// pair wrong elements without a word. Source: measured, see docs/numerics.md.
bool has_equal_layout(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  for (std::int64_t axis = 0; axis < a.dim(); ++axis)
    if (a.size(axis) != 1 && a.stride(axis) != b.stride(axis)) return false;
  return true;
}

std::vector<at::Tensor> pick(const std::vector<at::Tensor>& tensors,
                             const std::vector<std::int64_t>& members) {
  std::vector<at::Tensor> picked;
  picked.reserve(members.size());
  for (const std::int64_t i : members) picked.push_back(tensors[static_cast<std::size_t>(i)]);
  return picked;
}

}  // namespace

std::string_view parameter_part(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (name == "logit_scale") return "scale";
  if (has(".contrastive_head.") || has(".classifier.") || has("encode_text.linear_layer."))
    return "heads";
  return name.starts_with("encode_text.") ? "text" : "image";
}

Optimizer::Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters,
                     OptimizerOptions options)
    : parameters_(std::move(parameters)),
      options_(std::move(options)),
      groups_(make_groups(parameters_, options_)) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : parameters_) {
    TRIPHASE_CHECK(InternalError, tensor.is_non_overlapping_and_dense(), "parameter '", name,
                   "' has gaps in memory");
    exp_avg_.push_back(at::zeros_like(tensor, {}, at::MemoryFormat::Preserve));
    exp_avg_sq_.push_back(at::zeros_like(tensor, {}, at::MemoryFormat::Preserve));
  }
}

std::vector<at::Tensor> Optimizer::checked_gradients() const {
  std::vector<at::Tensor> result;
  result.reserve(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, parameter] = parameters_[i];
    const at::Tensor& gradient = parameter.grad();
    TRIPHASE_CHECK(InternalError, gradient.defined(), "parameter '", name, "' has no gradient");
    TRIPHASE_CHECK(InternalError,
                   has_equal_layout(parameter, gradient) &&
                       has_equal_layout(parameter, exp_avg_[i]) &&
                       gradient.scalar_type() == parameter.scalar_type(),
                   "the gradient of '", name, "' lies in memory otherwise than the parameter");
    result.push_back(gradient);
  }
  return result;
}

UpdateReport Optimizer::update(double lr_factor) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> all_gradients = checked_gradients();
  const double norm = global_norm(all_gradients);
  if (!std::isfinite(norm)) return {.grad_norm = norm, .is_skipped = true};
  const double clip = options_.grad_clip_norm / (norm + 1e-6);  // as torch's clip_grad_norm_
  if (options_.grad_clip_norm > 0 && clip < 1) at::_foreach_mul_(all_gradients, clip);

  ++num_updates_;
  const at::Tensor count = at::full({}, static_cast<double>(num_updates_), at::kFloat);
  std::vector<at::Tensor> all_parameters;
  for (const auto& [name, tensor] : parameters_) all_parameters.push_back(tensor);
  for (const OptimizerGroup& group : groups_) {
    std::vector<at::Tensor> parameters = pick(all_parameters, group.members);
    std::vector<at::Tensor> gradients = pick(all_gradients, group.members);
    std::vector<at::Tensor> exp_avg = pick(exp_avg_, group.members);
    std::vector<at::Tensor> exp_avg_sq = pick(exp_avg_sq_, group.members);
    const std::vector<at::Tensor> steps(parameters.size(), count);
    at::_fused_adamw_(parameters, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps,
                      group.lr * lr_factor, options_.betas[0], options_.betas[1],
                      group.weight_decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  }
  return {.grad_norm = norm, .is_skipped = false};
}

models::NamedTensors Optimizer::state() const {
  models::NamedTensors tensors;
  tensors.emplace_back("step", at::full({}, num_updates_, at::kLong));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    tensors.emplace_back("exp_avg." + parameters_[i].first, exp_avg_[i].contiguous());
    tensors.emplace_back("exp_avg_sq." + parameters_[i].first, exp_avg_sq_[i].contiguous());
  }
  return tensors;
}

void Optimizer::load_state(const models::NamedTensors& tensors, const std::string& source) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> given(tensors.begin(), tensors.end());
  const auto take = [&](const std::string& name, const at::Tensor& like) {
    const auto found = given.find(name);
    TRIPHASE_CHECK(CheckpointError, found != given.end(), "'", source, "' has no '", name,
                   "': it was written while other parameters trained. Set adapt.* as it was then.");
    at::Tensor tensor = found->second;
    given.erase(found);
    TRIPHASE_CHECK(CheckpointError, tensor.sizes() == like.sizes(), "'", source, "' has '", name,
                   "' of shape ", tensor.sizes(), ", expected ", like.sizes(),
                   ". Set adapt.* as it was then.");
    return tensor;
  };
  const std::int64_t count = take("step", at::empty({}, at::kLong)).item<std::int64_t>();
  std::vector<at::Tensor> first;
  std::vector<at::Tensor> second;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    first.push_back(take("exp_avg." + parameters_[i].first, exp_avg_[i]));
    second.push_back(take("exp_avg_sq." + parameters_[i].first, exp_avg_sq_[i]));
  }
  TRIPHASE_CHECK(CheckpointError, given.empty(), "'", source, "' also has '", given.begin()->first,
                 "', which does not train now. Set adapt.* as it was then.");
  TRIPHASE_CHECK(CheckpointError, count >= 0, "'", source, "' counts ", count, " updates");
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    exp_avg_[i].copy_(first[i]);
    exp_avg_sq_[i].copy_(second[i]);
  }
  num_updates_ = count;
}

}  // namespace triphase::trainer
