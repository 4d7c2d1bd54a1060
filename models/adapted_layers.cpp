// SPDX-License-Identifier: Apache-2.0
#include "models/adapted_layers.hpp"

#include "base/error.hpp"
#include "base/random.hpp"
#include "models/convolution.hpp"
#include "models/dropout.hpp"
#include "models/precision.hpp"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/types.h>

#include <cmath>

namespace triphase::models {
namespace {

/// Holds one factor, so that its parameter is called lora_A.weight.
class FactorImpl : public torch::nn::Module {
 public:
  explicit FactorImpl(const at::Tensor& value) { register_parameter("weight", value); }
};

/// Kaiming-uniform with a = sqrt 5, i.e. uniform in +-1/sqrt(fan in), as peft draws A.
at::Tensor draw_factor(at::IntArrayRef shape, std::uint64_t seed, const at::TensorOptions& options) {
  at::Tensor factor = at::empty(shape, at::kDouble);
  double* values = factor.data_ptr<double>();
  const double bound = 1 / std::sqrt(static_cast<double>(factor.numel() / factor.size(0)));
  KeyedRandom random{seed};
  for (std::int64_t i = 0; i < factor.numel(); ++i) values[i] = random.uniform(-bound, bound);
  return factor.to(options);
}

/// Registers both factors under the module, freezes its own weight and bias.
template <class Layer>
void add_factors(Layer& layer, at::IntArrayRef shape_a, at::IntArrayRef shape_b,
                 const LowRankOptions& options, std::uint64_t seed) {
  TRIPHASE_CHECK(InternalError, !layer.is_adapted(), "this layer has factors already");
  TRIPHASE_CHECK(ConfigError, options.rank >= 1, "an adapter's rank must be at least 1, is ",
                 options.rank);
  TRIPHASE_CHECK(ConfigError,
                 options.execution == AdapterExecution::kTwoPath || options.dropout == 0,
                 "a merged adapter has no input of its own that could be dropped, and dropout is ",
                 options.dropout, ". Set the dropout to 0, or adapt.execution to 'two_path'.");
  // Factors train, so they stay in float32 beside a weight that is stored narrower.
  const bool is_double = layer.weight.scalar_type() == at::kDouble;
  const auto kind = layer.weight.options().dtype(is_double ? at::kDouble : at::kFloat);
  layer.lora_A = draw_factor(shape_a, seed, kind).requires_grad_();
  layer.lora_B = at::zeros(shape_b, kind).requires_grad_();
  layer.register_module("lora_A", std::make_shared<FactorImpl>(layer.lora_A));
  layer.register_module("lora_B", std::make_shared<FactorImpl>(layer.lora_B));
  layer.weight.set_requires_grad(false);
  if (layer.bias.defined()) layer.bias.set_requires_grad(false);
}

template <class Layer>
void remove_factors(Layer& layer) {
  layer.unregister_module("lora_A");
  layer.unregister_module("lora_B");
  layer.lora_A = at::Tensor();
  layer.lora_B = at::Tensor();
}

/// weight + sign * delta_weight().
template <class Layer>
void add_delta(Layer& layer, double sign) {
  const at::NoGradGuard no_grad;
  layer.weight.add_(layer.delta_weight(), sign);
}

/// weight + scale * B A as autograd sees it, for merged execution. In the factors' own dtype: under autocast
/// the product would be rounded before it is added.
template <class Layer>
at::Tensor whole_weight(const Layer& layer) {
  const AutocastGuard autocast(layer.weight.device().type());
  autocast.off();
  const at::Tensor product = at::matmul(layer.lora_B.flatten(1), layer.lora_A.flatten(1));
  return at::add(layer.weight, product.view_as(layer.weight), layer.low_rank().scale());
}

void check_merge(bool is_adapted, bool is_merged, bool should_be_merged) {
  TRIPHASE_CHECK(InternalError, is_adapted && is_merged == should_be_merged, "a layer ",
                 !is_adapted ? "without factors" : is_merged ? "merged already" : "not merged",
                 " is asked to ", should_be_merged ? "unmerge" : "merge");
}

/// scale * B A in float64 until the last rounding, in the weight's shape and dtype.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, double scale, const at::Tensor& like) {
  const at::NoGradGuard no_grad;
  const at::Tensor full = at::matmul(b.flatten(1).to(at::kDouble), a.flatten(1).to(at::kDouble));
  return (full * scale).reshape(like.sizes()).to(like.scalar_type());
}

bool has_path(const LowRankOptions& options, bool takes_part, AdapterExecution execution) {
  return takes_part && options.execution == execution;
}

/// One channel that stands for several equal ones: the sum over a kernel's input channels does the same.
bool folds_input(const AdaptedConv3dImpl::Options& options, const at::Tensor& x) {
  return options.fold_input_channels && x.size(1) == 1;
}

at::Tensor scaled(const at::Tensor& kernel, const ChannelAffine& after) {
  return after.scale.defined() ? kernel * after.scale.view({-1, 1, 1, 1, 1}) : kernel;
}

// Note [Frozen kernels]
// Autocast keeps the narrow copies of leaves that train, until its cache is cleared, and none of frozen ones:
// it would narrow those again in every pass. So a frozen layer keeps its own, made again when the weight (or
// the frozen scale folded into it) changes. The weight itself stays in float32 for files, hashes and merging.

/// Whether autocast would narrow this frozen weight beside x.
bool is_cast(const at::Tensor& weight, const at::Tensor& x) {
  return !weight.requires_grad() && weight.scalar_type() == at::kFloat &&
         at::autocast::is_autocast_enabled(x.device().type());
}

}  // namespace

double LowRankOptions::scale() const {
  const auto r = static_cast<double>(rank);
  return rslora ? alpha / std::sqrt(r) : alpha / r;
}

AdaptedConv3dImpl::AdaptedConv3dImpl(const Options& options) : options_(options) {
  const auto& k = options.kernel;
  weight = register_parameter(
      "weight", torch::zeros({options.out_channels, options.in_channels, k[0], k[1], k[2]}));
  if (options.bias) bias = register_parameter("bias", torch::zeros({options.out_channels}));
}

at::Tensor AdaptedConv3dImpl::base_kernel(const at::Tensor& x, const ChannelAffine& after) {
  const bool within = has_path(low_rank_, adapted_ && !merged_, AdapterExecution::kMerged);
  const bool folds = folds_input(options_, x);
  const auto make = [&] {
    const at::Tensor whole = within ? whole_weight(*this) : weight;
    return scaled(folds ? whole.sum(/*dim=*/1, /*keepdim=*/true) : whole, after);
  };
  if (within || (after.scale.defined() && after.scale.requires_grad()) || !is_cast(weight, x))
    return matching(make(), x);
  const at::ScalarType dtype = at::autocast::get_autocast_dtype(x.device().type());
  const std::int64_t variant = 2 * static_cast<std::int64_t>(dtype) + (folds ? 1 : 0);
  return narrow_
      .get({weight, after.scale}, variant, [&] { return KeptResult::Tensors{make().to(dtype)}; })
      .front();
}

at::Tensor AdaptedConv3dImpl::forward(const at::Tensor& x, const ChannelAffine& after) {
  at::Tensor shift = bias;
  if (after.scale.defined())
    shift = bias.defined() ? at::addcmul(after.shift, bias, after.scale) : after.shift;
  const at::Tensor y =
      convolve(x, base_kernel(x, after), matching(shift, x), options_.stride, options_.padding);
  if (!has_path(low_rank_, adapted_ && !merged_, AdapterExecution::kTwoPath)) return y;
  const at::Tensor a =
      folds_input(options_, x) ? lora_A.sum(/*dim=*/1, /*keepdim=*/true) : lora_A;
  const at::Tensor inner = convolve(dropout(x, is_training() ? low_rank_.dropout : 0.0), matching(a, x),
                                    {}, options_.stride, options_.padding);
  const at::Tensor change =
      convolve(inner, matching(scaled(lora_B, after), inner), {}, {1, 1, 1}, {0, 0, 0});
  return y.add(change, low_rank_.scale());
}

void AdaptedConv3dImpl::adapt(const LowRankOptions& options, std::uint64_t seed) {
  const auto& k = options_.kernel;
  add_factors(*this, {options.rank, options_.in_channels, k[0], k[1], k[2]},
              {options_.out_channels, options.rank, 1, 1, 1}, options, seed);
  low_rank_ = options;
  adapted_ = true;
}

at::Tensor AdaptedConv3dImpl::delta_weight() const {
  TRIPHASE_CHECK(InternalError, adapted_, "a layer without factors has no delta weight");
  return product(lora_A, lora_B, low_rank_.scale(), weight);
}

void AdaptedConv3dImpl::merge() {
  if (!merged_) add_delta(*this, 1);
  remove_factors(*this);
  adapted_ = merged_ = false;
}

void AdaptedConv3dImpl::merge_keeping_factors() {
  check_merge(adapted_, merged_, false);
  add_delta(*this, 1);
  merged_ = true;
}

void AdaptedConv3dImpl::unmerge() {
  check_merge(adapted_, merged_, true);
  add_delta(*this, -1);
  merged_ = false;
}

AdaptedLinearImpl::AdaptedLinearImpl(std::int64_t in_features, std::int64_t out_features) {
  weight = register_parameter("weight", torch::zeros({out_features, in_features}));
  bias = register_parameter("bias", torch::zeros({out_features}));
}

at::Tensor AdaptedLinearImpl::forward(const at::Tensor& x) {
  const bool within = has_path(low_rank_, adapted_ && !merged_, AdapterExecution::kMerged);
  // at::linear hands the leaf itself to autocast, whose cache of cast weights then works.
  at::Tensor whole = within ? whole_weight(*this) : weight;
  if (!within && is_cast(weight, x)) {
    const at::ScalarType dtype = at::autocast::get_autocast_dtype(x.device().type());
    whole = narrow_
                .get({weight}, static_cast<std::int64_t>(dtype),
                     [&] { return KeptResult::Tensors{weight.to(dtype)}; })
                .front();
  }
  const at::Tensor y = at::linear(x, matching(whole, x), matching(bias, x));
  if (!has_path(low_rank_, adapted_ && !merged_, AdapterExecution::kTwoPath)) return y;
  const at::Tensor inner =
      at::linear(dropout(x, is_training() ? low_rank_.dropout : 0.0), matching(lora_A, x));
  return y.add(at::linear(inner, matching(lora_B, inner)), low_rank_.scale());
}

void AdaptedLinearImpl::adapt(const LowRankOptions& options, std::uint64_t seed) {
  add_factors(*this, {options.rank, weight.size(1)}, {weight.size(0), options.rank}, options, seed);
  low_rank_ = options;
  adapted_ = true;
}

at::Tensor AdaptedLinearImpl::delta_weight() const {
  TRIPHASE_CHECK(InternalError, adapted_, "a layer without factors has no delta weight");
  return product(lora_A, lora_B, low_rank_.scale(), weight);
}

void AdaptedLinearImpl::merge() {
  if (!merged_) add_delta(*this, 1);
  remove_factors(*this);
  adapted_ = merged_ = false;
}

void AdaptedLinearImpl::merge_keeping_factors() {
  check_merge(adapted_, merged_, false);
  add_delta(*this, 1);
  merged_ = true;
}

void AdaptedLinearImpl::unmerge() {
  check_merge(adapted_, merged_, true);
  add_delta(*this, -1);
  merged_ = false;
}

}  // namespace triphase::models
