// SPDX-License-Identifier: Apache-2.0
#include "dist/global_contrastive_loss.hpp"

#include "base/error.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <limits>

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
// bits. Memory: 3 tile^2 + O(B (E + 1)) elements. Four products of b*B*E in all.
//
// Note [Small losses]
// Near the end of training S_ii is the maximum of its row, about 100, and the loss of a row is far
// below the spacing of float32 there. So neither max + log(sum) is ever formed nor its exponential:
// the loss is (max - S_ii) + log(sum), with S_ii read from the tile that gave the maximum; the
// softmax is exp(S - max) * (1 / sum).

namespace triphase::dist {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Logits keep their dtype inside autocast, too.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

/// Running maxima and sums of exp(logit - maximum), one for each row or column.
struct LogSumExp {
  at::Tensor max;
  at::Tensor sum;

  LogSumExp(std::int64_t count, const at::TensorOptions& options)
      : max(at::full({count}, -std::numeric_limits<double>::infinity(), options)),
        sum(at::zeros({count}, options)) {}

  /// Takes in a tile of logits whose entries along `dim` belong to elements begin, begin + 1, ...
  void absorb(const at::Tensor& logits, std::int64_t dim, std::int64_t begin, at::Tensor scratch) {
    const std::int64_t count = logits.size(1 - dim);
    at::Tensor old_max = max.narrow(0, begin, count);
    at::Tensor old_sum = sum.narrow(0, begin, count);
    const at::Tensor new_max = at::maximum(old_max, at::amax(logits, {dim}));
    at::sub_out(scratch, logits, new_max.unsqueeze(dim));
    scratch.exp_();
    old_sum.mul_(at::exp(old_max - new_max)).add_(at::sum(scratch, {dim}));
    old_max.copy_(new_max);
  }
  /// Joins the ranks' parts. Collective over group.
  void join(ProcessGroup& group) {
    const at::Tensor own_max = max.clone();
    max = group.all_reduce(max, ReduceOp::kMax)->wait();
    sum.mul_(at::exp(own_max - max));
    sum = group.all_reduce(sum, ReduceOp::kSum)->wait();
  }
};

struct Tile {
  std::int64_t row, num_rows, column, num_columns;
};

/// The local rows and all columns of the logits, cut into tiles.
class Tiling {
 public:
  Tiling(const at::Tensor& scaled_image, const at::Tensor& all_text, std::int64_t first_row,
         std::int64_t tile)
      : image_(scaled_image), text_(all_text), first_row_(first_row), tile_(tile) {
    const std::int64_t most = std::min(tile, image_.size(0)) * std::min(tile, text_.size(0));
    for (at::Tensor& buffer : buffers_) buffer = at::empty({most}, image_.options());
  }
  /// Calls body(tile, logits) tile by tile, always in the same order.
  template <class Body>
  void for_each(Body&& body) {
    for (std::int64_t row = 0; row < image_.size(0); row += tile_) {
      for (std::int64_t column = 0; column < text_.size(0); column += tile_) {
        const Tile tile{row, std::min(tile_, image_.size(0) - row), column,
                        std::min(tile_, text_.size(0) - column)};
        at::Tensor logits = buffer(0, tile);
        at::mm_out(logits, image_.narrow(0, row, tile.num_rows),
                   text_.narrow(0, column, tile.num_columns).t());
        body(tile, logits);
      }
    }
  }
  /// Scratch of the tile's shape; number 0 holds the logits.
  [[nodiscard]] at::Tensor buffer(std::size_t number, const Tile& tile) const {
    return buffers_[number]
        .narrow(0, 0, tile.num_rows * tile.num_columns)
        .view({tile.num_rows, tile.num_columns});
  }
  /// Calls body(first local row, entries) with the part of the pairs' diagonal that lies in the
  /// tile.
  template <class Body>
  void on_diagonal(const Tile& tile, const at::Tensor& values, Body&& body) const {
    const std::int64_t row = first_row_ + tile.row;
    const std::int64_t begin = std::max(tile.column, row);
    const std::int64_t end = std::min(tile.column + tile.num_columns, row + tile.num_rows);
    if (begin >= end) return;
    const at::Tensor square =
        values.narrow(0, begin - row, end - begin).narrow(1, begin - tile.column, end - begin);
    body(begin - first_row_, square.diagonal());
  }

 private:
  const at::Tensor& image_;
  const at::Tensor& text_;
  std::int64_t first_row_;
  std::int64_t tile_;
  std::array<at::Tensor, 3> buffers_;
};

double scale_of(const at::Tensor& log_scale) { return at::exp(log_scale).item<double>(); }

/// Sum of (max - diagonal) + log(sum), in float64. See Note [Small losses].
double sum_of_losses(const at::Tensor& max, const at::Tensor& sum, const at::Tensor& diagonal) {
  return at::sum((max - diagonal).add_(at::log(sum)), at::kDouble).item<double>();
}

std::int64_t to_number(ProcessGroup& group) {
  return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(&group));
}
ProcessGroup& to_group(std::int64_t number) {
  return *reinterpret_cast<ProcessGroup*>(static_cast<std::intptr_t>(number));
}

// See Note [One-sided loss].
struct ContrastiveFunction : torch::autograd::Function<ContrastiveFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& image, const at::Tensor& text,
                            const at::Tensor& log_scale, std::int64_t group_number,
                            std::int64_t tile) {
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    ProcessGroup& group = to_group(group_number);
    const at::Tensor all_text = group.all_gather(text.contiguous())->wait();
    const std::int64_t b = image.size(0);
    const std::int64_t first = group.rank() * b;
    const at::Tensor scaled = image * scale_of(log_scale);

    Tiling tiling(scaled, all_text, first, tile);
    LogSumExp rows(b, image.options());
    LogSumExp columns(all_text.size(0), image.options());
    const at::Tensor diagonal = at::empty({b}, image.options());
    tiling.for_each([&](const Tile& at, const at::Tensor& logits) {
      rows.absorb(logits, 1, at.row, tiling.buffer(1, at));
      columns.absorb(logits, 0, at.column, tiling.buffer(1, at));
      tiling.on_diagonal(at, logits, [&](std::int64_t row, const at::Tensor& entries) {
        diagonal.narrow(0, row, entries.size(0)).copy_(entries);
      });
    });
    columns.join(group);
    const double part =
        sum_of_losses(rows.max, rows.sum, diagonal) +
        sum_of_losses(columns.max.narrow(0, first, b), columns.sum.narrow(0, first, b), diagonal);
    const at::Tensor total = at::full({1}, part / static_cast<double>(2 * all_text.size(0)),
                                      image.options().dtype(at::kDouble));
    ctx->saved_data["group"] = group_number;
    ctx->saved_data["tile"] = tile;
    ctx->save_for_backward({image, all_text, log_scale, rows.max, at::reciprocal(rows.sum),
                            columns.max, at::reciprocal(columns.sum)});
    return group.all_reduce(total, ReduceOp::kSum)->wait().to(image.scalar_type()).squeeze(0);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grad_output) {
    const at::NoGradGuard no_grad;
    const NoAutocast guard(c10::autocast_dispatch_keyset);
    ProcessGroup& group = to_group(ctx->saved_data["group"].toInt());
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& image = saved[0];
    const at::Tensor& all_text = saved[1];
    const double scale = scale_of(saved[2]);
    const at::Tensor scaled = image * scale;
    const double weight = grad_output[0].item<double>() / static_cast<double>(2 * all_text.size(0));

    Tiling tiling(scaled, all_text, group.rank() * image.size(0), ctx->saved_data["tile"].toInt());
    at::Tensor image_grad = at::zeros_like(image);
    at::Tensor text_grad = at::zeros_like(all_text);
    double log_scale_grad = 0;
    tiling.for_each([&](const Tile& at, const at::Tensor& logits) {
      const auto softmax = [&](std::size_t number, std::size_t buffer, std::int64_t dim) {
        const std::int64_t begin = dim == 1 ? at.row : at.column;
        at::Tensor result = tiling.buffer(buffer, at);
        const auto of_tile = [&](const at::Tensor& all) {
          return all.narrow(0, begin, logits.size(1 - dim)).unsqueeze(dim);
        };
        at::sub_out(result, logits, of_tile(saved[number]));
        return result.exp_().mul_(of_tile(saved[number + 1]));
      };
      at::Tensor g = softmax(3, 1, 1);
      at::Tensor product = softmax(5, 2, 0);
      g.add_(product);
      tiling.on_diagonal(at, g, [](std::int64_t, at::Tensor entries) { entries.sub_(2); });
      g.mul_(weight);
      image_grad.narrow(0, at.row, at.num_rows)
          .addmm_(g, all_text.narrow(0, at.column, at.num_columns));
      text_grad.narrow(0, at.column, at.num_columns)
          .addmm_(g.t(), scaled.narrow(0, at.row, at.num_rows));
      at::mul_out(product, g, logits);
      log_scale_grad += at::sum(product, at::kDouble).item<double>();
    });
    image_grad.mul_(scale);
    text_grad = group.reduce_scatter(text_grad)->wait();
    return {image_grad, text_grad, at::full({}, log_scale_grad, saved[2].options()), at::Tensor(),
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
