// SPDX-License-Identifier: Apache-2.0
#include "models/image_tower.hpp"

#include "base/error.hpp"
#include "models/conv_norm.hpp"
#include "models/dropout.hpp"
#include "models/max_pool.hpp"
#include "models/precision.hpp"
#include "models/recompute.hpp"

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace triphase::models {
namespace {

constexpr std::int64_t kExpansion = 4;  ///< a bottleneck's output channels over its inner ones

/// 1x1x1 or 3x3x3 without bias, padded to keep its size at stride 1.
AdaptedConv3d convolution(std::int64_t in, std::int64_t out, std::int64_t size, std::int64_t stride) {
  const std::int64_t pad = size / 2;
  return AdaptedConv3d(AdaptedConv3dImpl::Options{.in_channels = in,
                                                  .out_channels = out,
                                                  .kernel = {size, size, size},
                                                  .stride = {stride, stride, stride},
                                                  .padding = {pad, pad, pad}});
}

AdaptedConv3d head(std::int64_t in, std::int64_t out) {
  return AdaptedConv3d(
      AdaptedConv3dImpl::Options{.in_channels = in, .out_channels = out, .bias = true});
}

/// Whether y may be changed in place at no cost: where it is a view, autograd would copy its gradient.
bool owns_memory(const at::Tensor& y) { return !at::GradMode::is_enabled() || !y.is_view(); }

at::Tensor rectified(const at::Tensor& y) { return owns_memory(y) ? y.relu_() : y.relu(); }

/// `0` a strided convolution, `1` its norm: what the sum needs when sizes change.
class DownsampleImpl : public torch::nn::Module {
 public:
  DownsampleImpl(std::int64_t in, std::int64_t out, std::int64_t stride)
      : conv_(register_module("0", convolution(in, out, 1, stride))),
        norm_(register_module("1", BatchNorm(out))) {}
  at::Tensor forward(const at::Tensor& x) { return convolve_and_normalise(conv_, norm_, x); }

 private:
  AdaptedConv3d conv_;
  BatchNorm norm_;
};
TORCH_MODULE(Downsample);

/// torchvision's bottleneck inflated: the stride sits on conv2, in all three directions.
class BottleneckImpl : public torch::nn::Module {
 public:
  BottleneckImpl(std::int64_t in, std::int64_t width, std::int64_t stride, bool downsample)
      : conv1_(register_module("conv1", convolution(in, width, 1, 1))),
        bn1_(register_module("bn1", BatchNorm(width))),
        conv2_(register_module("conv2", convolution(width, width, 3, stride))),
        bn2_(register_module("bn2", BatchNorm(width))),
        conv3_(register_module("conv3", convolution(width, width * kExpansion, 1, 1))),
        bn3_(register_module("bn3", BatchNorm(width * kExpansion))) {
    if (downsample)
      downsample_ = register_module("downsample", Downsample(in, width * kExpansion, stride));
  }
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor y = rectified(convolve_and_normalise(conv1_, bn1_, x));
    y = rectified(convolve_and_normalise(conv2_, bn2_, y));
    y = convolve_and_normalise(conv3_, bn3_, y);
    const at::Tensor shortcut = downsample_.is_empty() ? x : downsample_(x);
    return (owns_memory(y) ? y.add_(shortcut) : y.add(shortcut)).relu_();
  }

 private:
  AdaptedConv3d conv1_;
  BatchNorm bn1_;
  AdaptedConv3d conv2_;
  BatchNorm bn2_;
  AdaptedConv3d conv3_;
  BatchNorm bn3_;
  Downsample downsample_{nullptr};
};
TORCH_MODULE(Bottleneck);

/// One of layer1 to layer4: blocks named 0, 1, ...
class StageImpl : public torch::nn::Module {
 public:
  StageImpl(std::int64_t in, std::int64_t width, std::int64_t num_blocks, std::int64_t stride) {
    for (std::int64_t i = 0; i < num_blocks; ++i) {
      const bool first = i == 0;
      blocks_.push_back(register_module(
          std::to_string(i),
          Bottleneck(first ? in : width * kExpansion, width, first ? stride : 1, first)));
    }
  }
  at::Tensor forward(const at::Tensor& x, Recompute mode) {
    if (mode == Recompute::kStages)
      return recompute_in_backward([this](const at::Tensor& z) { return by_blocks(z, false); }, x,
                                   {this});
    return by_blocks(x, mode == Recompute::kBlocks);
  }

 private:
  at::Tensor by_blocks(const at::Tensor& x, bool recompute) {
    at::Tensor y = x;
    for (Bottleneck& block : blocks_) {
      const auto segment = [&block](const at::Tensor& z) { return block(z); };
      y = recompute ? recompute_in_backward(segment, y, {block.get()}) : block(y);
    }
    return y;
  }

  std::vector<Bottleneck> blocks_;
};
TORCH_MODULE(Stage);

/// Merlin's I3ResNet, named i3_resnet.
class InflatedResNetImpl : public torch::nn::Module {
 public:
  InflatedResNetImpl(const ImageTowerOptions& options, std::int64_t embedding_size)
      : num_features(options.base_width * 8 * kExpansion) {
    const std::int64_t width = options.base_width;
    conv1_ = register_module(
        "conv1", AdaptedConv3d(AdaptedConv3dImpl::Options{.in_channels = 3,
                                                          .out_channels = width,
                                                          .kernel = {3, 7, 7},
                                                          .stride = {1, 2, 2},
                                                          .padding = {1, 3, 3},
                                                          .fold_input_channels = true}));
    bn1_ = register_module("bn1", BatchNorm(width));
    std::int64_t in = width;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::int64_t inner = width << i;
      stages_.push_back(register_module(str("layer", i + 1),
                                        Stage(in, inner, options.blocks[i], i == 0 ? 1 : 2)));
      in = inner * kExpansion;
    }
    classifier = register_module("classifier", head(num_features, options.num_phenotypes));
    contrastive_head = register_module("contrastive_head", head(num_features, embedding_size));
  }

  /// [B,1,Z,X,Y] to pooled features [B,F] in float32 or wider.
  at::Tensor features(const at::Tensor& x) {
    const auto stem = [this](const at::Tensor& input) {
      const at::Tensor y = rectified(convolve_and_normalise(conv1_, bn1_, input));
      return max_pool(y);
    };
    at::Tensor y = recompute == Recompute::kNone
                       ? stem(x)
                       : recompute_in_backward(stem, x, {conv1_.get(), bn1_.get()});
    for (Stage& stage : stages_) y = stage(y, recompute);
    const at::ScalarType wide = widened(y.new_empty({0})).scalar_type();
    return at::mean(y, {2, 3, 4}, /*keepdim=*/false, wide);
  }

  Recompute recompute = Recompute::kNone;
  std::int64_t num_features;
  AdaptedConv3d classifier{nullptr};
  AdaptedConv3d contrastive_head{nullptr};

 private:
  AdaptedConv3d conv1_{nullptr};
  BatchNorm bn1_{nullptr};
  std::vector<Stage> stages_;
};
TORCH_MODULE(InflatedResNet);

/// A head over pooled features, without autocast: it costs nothing and its rows are compared.
at::Tensor apply_head(AdaptedConv3d& layer, const at::Tensor& features) {
  const AutocastGuard autocast(features.device().type());
  autocast.off();
  const at::Tensor input = features.to(layer->weight.scalar_type());
  return layer(input.unflatten(1, {features.size(1), 1, 1, 1})).flatten(1);
}

}  // namespace

struct ImageTowerImpl::Parts {
  InflatedResNet network;
};

ImageTowerImpl::ImageTowerImpl(const ImageTowerOptions& options, std::int64_t embedding_size)
    : parts_(std::make_unique<Parts>(
          Parts{register_module("i3_resnet", InflatedResNet(options, embedding_size))})) {}

ImageTowerImpl::~ImageTowerImpl() = default;

ImageTowerImpl::Output ImageTowerImpl::forward(const at::Tensor& volumes, bool with_phenotypes) {
  TRIPHASE_CHECK(DataError, volumes.dim() == 5 && volumes.size(1) == 1 && volumes.numel() > 0,
                 "volumes must be [B,1,X,Y,Z] with at least one voxel, are ", volumes.sizes());
  begin_dropout_branch(DropoutBranch::kImage);
  InflatedResNetImpl& network = *parts_->network;
  Output output;
  output.features = network.features(volumes.permute({0, 1, 4, 2, 3}));
  output.projection = apply_head(network.contrastive_head, output.features);
  if (with_phenotypes) output.phenotype_logits = apply_head(network.classifier, output.features);
  return output;
}

void ImageTowerImpl::set_batch_norm(BatchNormMode mode, const GatherRows& gather) {
  for (const auto& module : modules())
    if (auto* norm = module->as<BatchNormImpl>()) norm->set_mode(mode, gather);
}

void ImageTowerImpl::set_recompute(Recompute mode) { parts_->network->recompute = mode; }

std::int64_t ImageTowerImpl::num_features() const { return parts_->network->num_features; }

}  // namespace triphase::models
