// SPDX-License-Identifier: Apache-2.0
#include "trainer/optim/optimizer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "trainer/broadcast_values.hpp"
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

std::vector<dist::ParameterSlice> whole_parameters(
    const std::vector<std::pair<std::string, at::Tensor>>& parameters) {
  std::vector<dist::ParameterSlice> slices;
  for (const auto& [name, tensor] : parameters)
    slices.push_back({static_cast<std::int64_t>(slices.size()), 0, tensor.numel()});
  return slices;
}

std::vector<std::vector<std::int64_t>> pieces_by_group(
    const std::vector<OptimizerGroup>& groups, const std::vector<dist::ParameterSlice>& pieces) {
  std::vector<std::vector<std::int64_t>> result(groups.size());
  for (std::size_t g = 0; g < groups.size(); ++g)
    for (std::size_t i = 0; i < pieces.size(); ++i)
      if (std::ranges::binary_search(groups[g].members, pieces[i].parameter))
        result[g].push_back(static_cast<std::int64_t>(i));
  return result;
}

}  // namespace

std::string_view parameter_part(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (name == "logit_scale" || name == "logit_bias") return "scale";
  if (has(".contrastive_head.") || has(".classifier.") || has("encode_text.linear_layer."))
    return "heads";
  return name.starts_with("encode_text.") ? "text" : "image";
}

Optimizer::Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters,
                     OptimizerOptions options)
    : Optimizer(std::move(parameters), std::move(options), nullptr) {}

Optimizer::Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters,
                     OptimizerOptions options, dist::GradientReducer& shards)
    : Optimizer(std::move(parameters), std::move(options), &shards) {}

Optimizer::Optimizer(std::vector<std::pair<std::string, at::Tensor>> parameters,
                     OptimizerOptions options, dist::GradientReducer* shards)
    : parameters_(std::move(parameters)),
      options_(std::move(options)),
      groups_(make_groups(parameters_, options_)),
      shards_(shards),
      pieces_(shards != nullptr ? shards->own_slices() : whole_parameters(parameters_)),
      pieces_of_group_(pieces_by_group(groups_, pieces_)) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : parameters_)
    TRIPHASE_CHECK(InternalError, tensor.is_non_overlapping_and_dense(), "parameter '", name,
                   "' has gaps in memory");
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const at::Tensor part = own_part(i, parameter_of(pieces_[i]));
    exp_avg_.push_back(at::zeros_like(part, {}, at::MemoryFormat::Preserve));
    exp_avg_sq_.push_back(at::zeros_like(part, {}, at::MemoryFormat::Preserve));
  }
}

/// Of a tensor that lies in memory as the piece's parameter does.
at::Tensor Optimizer::own_part(std::size_t piece, const at::Tensor& tensor) const {
  return is_sharded() ? dist::slice_of(tensor, pieces_[piece]) : tensor;
}

const at::Tensor& Optimizer::parameter_of(const dist::ParameterSlice& piece) const {
  return parameters_[static_cast<std::size_t>(piece.parameter)].second;
}

std::vector<at::Tensor> Optimizer::checked_gradients() const {
  std::vector<at::Tensor> result;
  result.reserve(pieces_.size());
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const auto& [name, parameter] = parameters_[static_cast<std::size_t>(pieces_[i].parameter)];
    const at::Tensor& gradient = parameter.grad();
    TRIPHASE_CHECK(InternalError, gradient.defined(), "parameter '", name, "' has no gradient");
    TRIPHASE_CHECK(InternalError,
                   has_equal_layout(parameter, gradient) &&
                       has_equal_layout(own_part(i, parameter), exp_avg_[i]) &&
                       gradient.scalar_type() == parameter.scalar_type(),
                   "the gradient of '", name, "' lies in memory otherwise than the parameter");
    result.push_back(own_part(i, gradient));
  }
  return result;
}

double Optimizer::norm_of(const std::vector<at::Tensor>& gradients) const {
  if (!is_sharded()) return global_norm(gradients);
  const at::Tensor sum = at::full({1}, global_square_sum(gradients), at::kDouble);
  return std::sqrt(
      shards_->group().all_reduce(sum, dist::ReduceOp::kSum)->wait().item<double>());
}

UpdateReport Optimizer::update(double lr_factor) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> all_gradients = checked_gradients();
  const double norm = norm_of(all_gradients);
  if (!std::isfinite(norm)) return {.grad_norm = norm, .is_skipped = true};
  const double clip = options_.grad_clip_norm / (norm + 1e-6);  // as torch's clip_grad_norm_
  if (options_.grad_clip_norm > 0 && clip < 1 && !all_gradients.empty())
    at::_foreach_mul_(all_gradients, clip);

  ++num_updates_;
  std::vector<at::Tensor> all_parts;
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    all_parts.push_back(own_part(i, parameter_of(pieces_[i])));
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const OptimizerGroup& group = groups_[g];
    const std::vector<std::int64_t>& members = pieces_of_group_[g];
    if (members.empty()) continue;
    std::vector<at::Tensor> parts = pick(all_parts, members);
    std::vector<at::Tensor> gradients = pick(all_gradients, members);
    std::vector<at::Tensor> exp_avg = pick(exp_avg_, members);
    std::vector<at::Tensor> exp_avg_sq = pick(exp_avg_sq_, members);
    const at::Tensor count = at::full({}, static_cast<double>(num_updates_),
                                      at::TensorOptions(at::kFloat).device(parts[0].device()));
    const std::vector<at::Tensor> steps(parts.size(), count);
    at::_fused_adamw_(parts, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps,
                      group.lr * lr_factor, options_.betas[0], options_.betas[1],
                      group.weight_decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  }
  if (is_sharded())
    shards_->gather(all_parts, [&](std::int64_t parameter, const at::Tensor& values) {
      parameters_[static_cast<std::size_t>(parameter)].second.copy_(values);
    });
  return {.grad_norm = norm, .is_skipped = false};
}

/// One tensor for each parameter, row-major; sharded: on rank 0 alone.
std::vector<at::Tensor> Optimizer::whole(const std::vector<at::Tensor>& moments) const {
  std::vector<at::Tensor> tensors(parameters_.size());
  if (!is_sharded()) {
    for (std::size_t i = 0; i < moments.size(); ++i) tensors[i] = moments[i].contiguous();
    return tensors;
  }
  shards_->gather(moments, [&](std::int64_t parameter, const at::Tensor& values) {
    if (shards_->group().rank() == 0)
      tensors[static_cast<std::size_t>(parameter)] =
          values.clone(at::MemoryFormat::Contiguous);  // the bucket is not kept
  });
  return tensors;
}

models::NamedTensors Optimizer::state() const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> first = whole(exp_avg_);
  const std::vector<at::Tensor> second = whole(exp_avg_sq_);
  if (is_sharded() && shards_->group().rank() != 0) return {};
  models::NamedTensors tensors;
  tensors.emplace_back("step", at::full({}, num_updates_, at::kLong));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    tensors.emplace_back("exp_avg." + parameters_[i].first, first[i]);
    tensors.emplace_back("exp_avg_sq." + parameters_[i].first, second[i]);
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
    first.push_back(take("exp_avg." + parameters_[i].first, parameters_[i].second));
    second.push_back(take("exp_avg_sq." + parameters_[i].first, parameters_[i].second));
  }
  TRIPHASE_CHECK(CheckpointError, given.empty(), "'", source, "' also has '", given.begin()->first,
                 "', which does not train now. Set adapt.* as it was then.");
  TRIPHASE_CHECK(CheckpointError, count >= 0, "'", source, "' counts ", count, " updates");
  // As the parameter lies in memory, whose order the pieces follow.
  const auto part = [&](std::size_t piece, const std::vector<at::Tensor>& moments) {
    const at::Tensor as_given = moments[static_cast<std::size_t>(pieces_[piece].parameter)];
    at::Tensor moved = at::empty_like(parameter_of(pieces_[piece]));
    moved.copy_(as_given);
    return own_part(piece, moved);
  };
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    exp_avg_[i].copy_(part(i, first));
    exp_avg_sq_[i].copy_(part(i, second));
  }
  num_updates_ = count;
}

void Optimizer::broadcast_state(dist::ProcessGroup& node) {
  TRIPHASE_CHECK(InternalError, !is_sharded(), "each rank has another part of a sharded optimizer");
  const at::NoGradGuard no_grad;
  const at::Tensor count = at::full({1}, num_updates_, at::kLong);
  broadcast_values(count, node);
  num_updates_ = count.item<std::int64_t>();
  for (const at::Tensor& moment : moments()) broadcast_values(moment, node);
}

std::vector<at::Tensor> Optimizer::moments() const {
  std::vector<at::Tensor> all = exp_avg_;
  all.insert(all.end(), exp_avg_sq_.begin(), exp_avg_sq_.end());
  return all;
}

}  // namespace triphase::trainer
