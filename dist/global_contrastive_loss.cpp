// SPDX-License-Identifier: Apache-2.0
#include "dist/global_contrastive_loss.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <cmath>
#include <memory>
#include <optional>

#include "base/error.hpp"
#include "dist/contrastive_tile.hpp"
#include "dist/pair_layout.hpp"

// Note [One-sided loss]
// S_ij = s x_i.y_j with s = exp(log_scale); rank r holds rows i of its own images, columns j are
// all texts.
//   L = 1/2B sum_i [logsumexp_j S_ij - S_ii] + 1/2B sum_j [logsumexp_i S_ij - S_jj]
// A row's log-sum-exp is complete on its rank. A column's is joined over the ranks: all-reduce the
// maxima, bring each rank's sum of exp to the joined maximum, all-reduce the sums. With P, Q the
// row and column softmax and G = (P + Q - 2I) / 2B,
//   dL/dx_i = s sum_j G_ij y_j          complete on the rank
//   dL/dy_j = s sum_i G_ij x_i          a part on every rank: reduce-scatter
//   dL/dlog_scale = sum_ij G_ij S_ij    a part on every rank, returned as it is: the reducer sums
// S exists tile by tile and is computed again in backward by the same calls, hence with the same
// bits. Memory: tile^2 + O(b E + B) elements, with the gathered texts O(B E). Four products of
// b*B*E in all. Several positives: 2I becomes 2T, T_ij = 1 / |P(i)| on P(i); |P(i)| = |P(j)| there,
// so one T serves rows and columns.
//
// The sigmoid loss has G = (sigma(S + bias) - [j in P(i)]) / B and no sums over columns to join.
//
// Note [Small losses]
// Near the end of training S_ii is the maximum of its row, about 100, and the loss of a row is far
// below the spacing of float32 there. So neither max + log(sum) is ever formed nor its exponential:
// the loss is (max - S_ii) + log(sum), with S_ii read from the tile that gave the maximum; the
// softmax is exp(S - max) / sum. And sum is 1 plus little: what stands beside the positives is
// summed by itself and joined to them in float64, as is the softmax of a positive less its target.

namespace triphase::dist {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Logits keep their dtype inside autocast, too.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

/// Joins the ranks' parts of the columns. Collective over group.
void join_columns(SoftmaxSums& sums, ProcessGroup& group) {
  const at::Tensor own_max = sums.column_max.to(at::kDouble, false, /*copy=*/true);
  sums.column_max = group.all_reduce(sums.column_max, ReduceOp::kMax)->wait();
  sums.column_sum.mul_(at::exp(own_max - sums.column_max));
  sums.column_sum = group.all_reduce(sums.column_sum, ReduceOp::kSum)->wait();
}

double scale_of(const at::Tensor& log_scale) { return std::exp(log_scale.item<double>()); }

/// Sum of (max - mean of the positives) + log(sum), in float64. See Note [Small losses].
double sum_of_losses(const at::Tensor& max, const at::Tensor& sum, const at::Tensor& positives) {
  return at::sum((max.to(at::kDouble) - positives).add_(at::log(sum))).item<double>();
}

std::int64_t to_number(ProcessGroup& group) {
  return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(&group));
}
ProcessGroup& to_group(std::int64_t number) {
  return *reinterpret_cast<ProcessGroup*>(static_cast<std::intptr_t>(number));
}

/// What backward needs beside the tensors that autograd watches.
struct LossState final : torch::CustomClassHolder {
  ProcessGroup* group = nullptr;
  ContrastiveLossOptions options;
  PairLayout layout;
  SoftmaxSums sums;  ///< of InfoNCE, columns joined
};

std::unique_ptr<ContrastiveTiles> tiles_of(const LossState& state, const at::Tensor& image,
                                           const at::Tensor& log_scale, const at::Tensor& bias) {
  const LogitMap map{scale_of(log_scale), bias.defined() ? bias.item<double>() : 0};
  const std::int64_t usual = image.is_cpu() ? 1024 : 4096;
  const std::int64_t given = state.options.tile;
  return make_contrastive_tiles(image, map, state.layout.keys, given > 0 ? given : usual);
}

/// This rank's part of B L.
double add_infonce(LossState& state, ContrastiveTiles& tiles, const at::Tensor& text,
                   const at::Tensor& gathered) {
  SoftmaxSums& sums = state.sums;
  sums = tiles.start();
  for_each_block(state.layout, state.options, text, gathered, *state.group,
                 [&](const ColumnBlock& block) { tiles.add(block, sums); });
  const bool is_local = state.options.negatives == Negatives::kLocal;
  if (!is_local) join_columns(sums, *state.group);
  const std::int64_t first = is_local ? 0 : state.layout.first_row;
  const std::int64_t b = text.size(0);
  // By symmetry the columns' positives add up to the rows'.
  return 0.5 * (sum_of_losses(sums.row_max, sums.row_sum, sums.positive_mean) +
                sum_of_losses(sums.column_max.narrow(0, first, b),
                              sums.column_sum.narrow(0, first, b), sums.positive_mean));
}

double add_siglip(LossState& state, ContrastiveTiles& tiles, const at::Tensor& text,
                  const at::Tensor& gathered) {
  double sum = 0;
  for_each_block(state.layout, state.options, text, gathered, *state.group,
                 [&](const ColumnBlock& block) { sum += tiles.sum_of_sigmoid_losses(block); });
  return sum;
}

// See Note [One-sided loss].
struct ContrastiveFunction : torch::autograd::Function<ContrastiveFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& image, const at::Tensor& text,
                            const at::Tensor& log_scale,
                            const std::optional<at::Tensor>& given_bias,
                            const c10::intrusive_ptr<LossState>& state) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    const at::Tensor bias = given_bias.value_or(at::Tensor());
    const at::Tensor rows = image.contiguous();
    const at::Tensor own = text.contiguous();
    const at::Tensor gathered = all_texts(state->layout, state->options, own, *state->group);
    const auto tiles = tiles_of(*state, rows, log_scale, bias);
    const bool is_infonce = state->options.kind == ContrastiveLossKind::kInfonce;
    const double part = is_infonce ? add_infonce(*state, *tiles, own, gathered)
                                   : add_siglip(*state, *tiles, own, gathered);
    const at::Tensor total = at::full({1}, part / static_cast<double>(state->layout.total),
                                      image.options().dtype(at::kDouble));
    ctx->saved_data["state"] = c10::IValue::make_capsule(state);
    ctx->save_for_backward({rows, own, gathered, log_scale, bias});
    return state->group->all_reduce(total, ReduceOp::kSum)
        ->wait()
        .to(image.scalar_type())
        .squeeze(0);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_output) {
    const at::NoGradGuard no_grad;
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    const auto held = ctx->saved_data["state"].toCapsule();
    const LossState& state = static_cast<const LossState&>(*held);
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& image = saved[0];
    const at::Tensor& log_scale = saved[3];
    const at::Tensor& bias = saved[4];
    const bool is_infonce = state.options.kind == ContrastiveLossKind::kInfonce;
    const double weight = grad_output[0].item<double>() /
                          static_cast<double>((is_infonce ? 2 : 1) * state.layout.total);

    const auto tiles = tiles_of(state, image, log_scale, bias);
    const at::Tensor image_grad = at::zeros_like(image);
    SigmoidGradient parts;
    const at::Tensor text_grad = sum_block_gradients(
        state.layout, state.options, saved[1], saved[2], *state.group,
        [&](const ColumnBlock& block, const at::Tensor& block_grad) {
          if (is_infonce) {
            parts.scale += tiles->add_gradient(block, state.sums, weight, image_grad, block_grad);
            return;
          }
          const SigmoidGradient part =
              tiles->add_sigmoid_gradient(block, weight, image_grad, block_grad);
          parts.scale += part.scale;
          parts.bias += part.bias;
        });
    const auto scalar = [](double value, const at::Tensor& like) {
      return like.defined() ? at::full({}, value, like.options()) : at::Tensor();
    };
    return {image_grad, text_grad, scalar(parts.scale, log_scale), scalar(parts.bias, bias),
            at::Tensor()};
  }
};

struct GatherFunction : torch::autograd::Function<GatherFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& rows,
                            std::int64_t group_number) {
    ctx->saved_data["group"] = group_number;
    const at::Tensor all = to_group(group_number).all_gather(rows)->wait();
    return all.is_same(rows) ? all.alias()
                             : all;  // an input returned as it is would count as changed in place
  }
  static variable_list backward(AutogradContext* ctx, variable_list grad_output) {
    const at::NoGradGuard no_grad;
    ProcessGroup& group = to_group(ctx->saved_data["group"].toInt());
    return {group.reduce_scatter(grad_output[0].contiguous())->wait(), at::Tensor()};
  }
};

void check_pairs(const ContrastivePairs& pairs, const ContrastiveLossOptions& options) {
  const at::Tensor& image = pairs.image;
  TRIPHASE_CHECK(InternalError, image.dim() == 2 && image.sizes() == pairs.text.sizes(),
                 "the contrastive loss needs image and text [b,E] of equal shape, got ",
                 image.sizes(), " and ", pairs.text.sizes());
  TRIPHASE_CHECK(
      InternalError, image.scalar_type() == at::kFloat || image.scalar_type() == at::kDouble,
      "the contrastive loss needs Float or Double, got ", at::toString(image.scalar_type()));
  const auto is_scalar = [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == image.scalar_type() && tensor.dim() == 0;
  };
  TRIPHASE_CHECK(
      InternalError, pairs.text.scalar_type() == image.scalar_type() && is_scalar(pairs.log_scale),
      "the contrastive loss needs text and a 0-dim log_scale of the images' dtype ",
      at::toString(image.scalar_type()), ", got ", at::toString(pairs.text.scalar_type()), " and ",
      at::toString(pairs.log_scale.scalar_type()), " ", pairs.log_scale.sizes());
  const bool is_siglip = options.kind == ContrastiveLossKind::kSiglip;
  TRIPHASE_CHECK(
      InternalError, pairs.bias.defined() == is_siglip && (!is_siglip || is_scalar(pairs.bias)),
      "the sigmoid loss needs a 0-dim bias of the images' dtype, and no other loss has one");
  const bool is_grouped = options.negatives == Negatives::kGroup;
  TRIPHASE_CHECK(InternalError, pairs.negative_ids.defined() == is_grouped,
                 "negative_ids belong to Negatives::kGroup, and to it alone");
  for (const at::Tensor* ids : {&pairs.positive_ids, &pairs.negative_ids})
    TRIPHASE_CHECK(InternalError,
                   !ids->defined() || (ids->is_cpu() && ids->scalar_type() == at::kLong &&
                                       ids->sizes() == at::IntArrayRef{image.size(0)}),
                   "ids are [b] Long on the host, b is ", image.size(0));
  TRIPHASE_CHECK(InternalError, options.tile >= 0, "tile is ", options.tile, ", expected 0 or more");
}

}  // namespace

at::Tensor global_contrastive_loss(const ContrastivePairs& pairs, ProcessGroup& group,
                                   const ContrastiveLossOptions& options) {
  check_pairs(pairs, options);
  const auto state = c10::make_intrusive<LossState>();
  state->group = &group;
  state->options = options;
  state->layout = make_pair_layout(pairs, options.negatives, group);
  // Autograd takes no undefined tensor.
  const auto bias = pairs.bias.defined() ? std::optional(pairs.bias) : std::nullopt;
  return ContrastiveFunction::apply(pairs.image, pairs.text, pairs.log_scale, bias, state);
}

at::Tensor global_contrastive_loss(const at::Tensor& image, const at::Tensor& text,
                                   const at::Tensor& log_scale, ProcessGroup& group,
                                   const ContrastiveLossOptions& options) {
  return global_contrastive_loss(ContrastivePairs{image, text, log_scale, {}, {}, {}}, group,
                                 options);
}

at::Tensor gather_with_gradient(const at::Tensor& rows, ProcessGroup& group) {
  return GatherFunction::apply(rows, to_number(group));
}

}  // namespace triphase::dist
