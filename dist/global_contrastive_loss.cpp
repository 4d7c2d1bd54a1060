// SPDX-License-Identifier: Apache-2.0
#include "dist/global_contrastive_loss.hpp"

#include "base/error.hpp"
#include "dist/contrastive_tile.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

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
// bits. Memory: tile^2 + O(B (E + 1)) elements. Four products of b*B*E in all.
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

/// A pair's only positive is itself.
PairKeys keys_of(std::int64_t first, std::int64_t count, std::int64_t total) {
  return {at::arange(first, first + count, at::kLong), at::arange(total, at::kLong)};
}

// See Note [One-sided loss].
struct ContrastiveFunction : torch::autograd::Function<ContrastiveFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& image, const at::Tensor& text,
                            const at::Tensor& log_scale, std::int64_t group_number,
                            std::int64_t tile) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    ProcessGroup& group = to_group(group_number);
    const at::Tensor rows = image.contiguous();
    const at::Tensor all_text = group.all_gather(text.contiguous())->wait();
    const std::int64_t b = rows.size(0);
    const std::int64_t first = group.rank() * b;
    const PairKeys keys = keys_of(first, b, all_text.size(0));

    const auto tiles = make_contrastive_tiles(rows, scale_of(log_scale), keys, tile);
    SoftmaxSums sums = tiles->start();
    tiles->add({all_text, 0}, sums);
    join_columns(sums, group);
    const double part = sum_of_losses(sums.row_max, sums.row_sum, sums.positive_mean) +
                        sum_of_losses(sums.column_max.narrow(0, first, b),
                                      sums.column_sum.narrow(0, first, b), sums.positive_mean);
    const at::Tensor total = at::full({1}, part / static_cast<double>(2 * all_text.size(0)),
                                      image.options().dtype(at::kDouble));
    ctx->saved_data["group"] = group_number;
    ctx->saved_data["tile"] = tile;
    ctx->save_for_backward({rows, all_text, log_scale, sums.row_max, sums.row_sum,
                            sums.column_max, sums.column_sum});
    return group.all_reduce(total, ReduceOp::kSum)->wait().to(image.scalar_type()).squeeze(0);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_output) {
    const at::NoGradGuard no_grad;
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    ProcessGroup& group = to_group(ctx->saved_data["group"].toInt());
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& image = saved[0];
    const at::Tensor& all_text = saved[1];
    const at::Tensor& log_scale = saved[2];
    const SoftmaxSums sums{saved[3], saved[4], saved[5], saved[6], {}};
    const std::int64_t b = image.size(0);
    const PairKeys keys = keys_of(group.rank() * b, b, all_text.size(0));
    const double weight = grad_output[0].item<double>() / static_cast<double>(2 * all_text.size(0));

    const auto tiles = make_contrastive_tiles(image, scale_of(log_scale), keys,
                                              ctx->saved_data["tile"].toInt());
    const at::Tensor image_grad = at::zeros_like(image);
    at::Tensor text_grad = at::zeros_like(all_text);
    const double log_scale_grad =
        tiles->add_gradient({all_text, 0}, sums, weight, image_grad, text_grad);
    text_grad = group.reduce_scatter(text_grad)->wait();
    return {image_grad, text_grad, at::full({}, log_scale_grad, log_scale.options()), at::Tensor(),
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

}  // namespace

at::Tensor global_contrastive_loss(const at::Tensor& image, const at::Tensor& text,
                                   const at::Tensor& log_scale, ProcessGroup& group,
                                   const ContrastiveLossOptions& options) {
  TRIPHASE_CHECK(InternalError,
                 image.dim() == 2 && image.sizes() == text.sizes() && image.size(0) > 0,
                 "the contrastive loss needs image and text [b,E] of equal shape with b > 0, got ",
                 image.sizes(), " and ", text.sizes());
  TRIPHASE_CHECK(
      InternalError, image.scalar_type() == at::kFloat || image.scalar_type() == at::kDouble,
      "the contrastive loss needs Float or Double, got ", at::toString(image.scalar_type()));
  TRIPHASE_CHECK(InternalError,
                 text.scalar_type() == image.scalar_type() &&
                     log_scale.scalar_type() == image.scalar_type() && log_scale.dim() == 0,
                 "the contrastive loss needs text and a 0-dim log_scale of the images' dtype ",
                 at::toString(image.scalar_type()), ", got ", at::toString(text.scalar_type()),
                 " and ", at::toString(log_scale.scalar_type()), " ", log_scale.sizes());
  TRIPHASE_CHECK(InternalError, options.tile > 0, "tile is ", options.tile, ", expected 1 or more");
  return ContrastiveFunction::apply(image, text, log_scale, to_number(group), options.tile);
}

at::Tensor gather_with_gradient(const at::Tensor& rows, ProcessGroup& group) {
  return GatherFunction::apply(rows, to_number(group));
}

}  // namespace triphase::dist
