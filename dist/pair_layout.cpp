// SPDX-License-Identifier: Apache-2.0
#include "dist/pair_layout.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "base/error.hpp"

namespace triphase::dist {
namespace {

/// With zeros below, as many rows as the largest rank has.
at::Tensor filled_up(const at::Tensor& rows, std::int64_t count) {
  if (rows.size(0) == count) return rows;
  std::vector<std::int64_t> sizes = rows.sizes().vec();
  sizes[0] = count - rows.size(0);
  return at::cat({rows, at::zeros(sizes, rows.options())});
}

/// (positive id, negative id) of every pair that can be compared, [n,2], in the global order.
at::Tensor ids_of_all(const ContrastivePairs& pairs, Negatives negatives, const PairLayout& layout,
                      ProcessGroup& group) {
  const std::int64_t b = pairs.image.size(0);
  const bool has_ids = pairs.positive_ids.defined() || negatives == Negatives::kGroup;
  if (!has_ids) return {};
  const at::Tensor own = at::stack(
      {pairs.positive_ids.defined() ? pairs.positive_ids
                                    : at::arange(layout.first_row, layout.first_row + b, at::kLong),
       negatives == Negatives::kGroup ? pairs.negative_ids : at::zeros({b}, at::kLong)},
      1);
  if (negatives == Negatives::kLocal) return own;
  const at::Tensor all = group.all_gather(filled_up(own, layout.largest).contiguous())->wait();
  std::vector<at::Tensor> parts;
  for (std::size_t r = 0; r < layout.counts.size(); ++r)
    parts.push_back(all.narrow(0, static_cast<std::int64_t>(r) * layout.largest, layout.counts[r]));
  return at::cat(parts);
}

/// Numbers from 0 in the order in which values are first met: the same on every rank.
template <class Value>
class Numbering {
 public:
  std::int64_t operator()(const Value& value) {
    return numbers_.try_emplace(value, static_cast<std::int64_t>(numbers_.size())).first->second;
  }

 private:
  std::map<Value, std::int64_t> numbers_;
};

PairKeys keys_of(const at::Tensor& ids, Negatives negatives, std::int64_t first,
                 std::int64_t count) {
  PairKeys keys;
  const std::int64_t n = ids.size(0);
  keys.column = at::empty({n}, at::kLong);
  at::Tensor groups = at::empty({n}, at::kLong);
  Numbering<std::pair<std::int64_t, std::int64_t>> number_of_key;
  Numbering<std::int64_t> number_of_group;
  const std::int64_t* id = ids.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) {
    keys.column.mutable_data_ptr<std::int64_t>()[i] = number_of_key({id[2 * i], id[2 * i + 1]});
    groups.mutable_data_ptr<std::int64_t>()[i] = number_of_group(id[2 * i + 1]);
  }
  keys.row = keys.column.narrow(0, first, count).clone();
  if (negatives == Negatives::kGroup) {
    keys.column_group = groups;
    keys.row_group = groups.narrow(0, first, count).clone();
  }
  return keys;
}

int neighbour(const ProcessGroup& group, int step) {
  return (group.rank() + step + group.num_ranks()) % group.num_ranks();
}

}  // namespace

std::int64_t PairLayout::first_of(int rank) const {
  return std::accumulate(counts.begin(), counts.begin() + rank, std::int64_t{0});
}

PairLayout make_pair_layout(const ContrastivePairs& pairs, Negatives negatives,
                            ProcessGroup& group) {
  const std::int64_t b = pairs.image.size(0);
  const at::Tensor counts = group.all_gather(at::full({1}, b, at::kLong))->wait();
  const std::int64_t* count = counts.const_data_ptr<std::int64_t>();
  PairLayout layout;
  layout.counts.assign(count, count + counts.numel());
  layout.first_row = layout.first_of(group.rank());
  layout.total = std::accumulate(layout.counts.begin(), layout.counts.end(), std::int64_t{0});
  layout.largest = *std::max_element(layout.counts.begin(), layout.counts.end());
  TRIPHASE_CHECK(InternalError, layout.total > 0,
                 "the contrastive loss needs at least one pair, and no rank has any");
  const at::Tensor ids = ids_of_all(pairs, negatives, layout, group);
  const bool is_local = negatives == Negatives::kLocal;
  const std::int64_t first = is_local ? 0 : layout.first_row;
  if (ids.defined()) {
    layout.keys = keys_of(ids.contiguous(), negatives, first, b);
    return layout;
  }
  layout.keys.row = at::arange(first, first + b, at::kLong);
  layout.keys.column = at::arange(is_local ? b : layout.total, at::kLong);
  return layout;
}

at::Tensor all_texts(const PairLayout& layout, const ContrastiveLossOptions& options,
                     const at::Tensor& own, ProcessGroup& group) {
  const bool is_gathered =
      options.negatives != Negatives::kLocal && options.transport == TextTransport::kGather;
  if (!is_gathered) return {};
  return group.all_gather(filled_up(own, layout.largest))->wait();
}

at::Tensor sum_block_gradients(const PairLayout& layout, const ContrastiveLossOptions& options,
                               const at::Tensor& own, const at::Tensor& gathered,
                               ProcessGroup& group, const GradientBody& body) {
  const std::int64_t b = own.size(0);
  if (options.negatives == Negatives::kLocal) {
    const at::Tensor grad = at::zeros_like(own);
    body({own, 0}, grad);
    return grad;
  }
  if (options.transport == TextTransport::kGather) {
    const at::Tensor grad = at::zeros_like(gathered);
    if (layout.is_even()) {
      body({gathered, 0}, grad);
    } else {
      for (int r = 0; r < group.num_ranks(); ++r) {
        const std::int64_t count = layout.counts[static_cast<std::size_t>(r)];
        const std::int64_t at = r * layout.largest;
        body({gathered.narrow(0, at, count), layout.first_of(r)}, grad.narrow(0, at, count));
      }
    }
    return group.reduce_scatter(grad)->wait().narrow(0, 0, b);
  }
  // A rank's texts and the gradient that grows with them go from neighbour to neighbour, until the
  // gradient is back at home.
  at::Tensor text = filled_up(own, layout.largest);
  at::Tensor grad = at::zeros_like(text);
  for (int step = 0; step < group.num_ranks(); ++step) {
    const int owner = neighbour(group, step);
    const std::int64_t count = layout.counts[static_cast<std::size_t>(owner)];
    body({text.narrow(0, 0, count), layout.first_of(owner)}, grad.narrow(0, 0, count));
    grad = group.send_receive(grad, neighbour(group, -1), neighbour(group, 1))->wait();
    if (step + 1 < group.num_ranks())
      text = group.send_receive(text, neighbour(group, -1), neighbour(group, 1))->wait();
  }
  return grad.narrow(0, 0, b);
}

void for_each_block(const PairLayout& layout, const ContrastiveLossOptions& options,
                    const at::Tensor& own, const at::Tensor& gathered, ProcessGroup& group,
                    const BlockBody& body) {
  if (options.negatives == Negatives::kLocal) {
    body({own, 0});
    return;
  }
  if (options.transport == TextTransport::kGather && layout.is_even()) {
    body({gathered, 0});
    return;
  }
  at::Tensor travelling;
  if (options.transport == TextTransport::kRing) travelling = filled_up(own, layout.largest);
  for (int step = 0; step < group.num_ranks(); ++step) {
    const int owner = neighbour(group, step);
    const std::int64_t count = layout.counts[static_cast<std::size_t>(owner)];
    const at::Tensor text = travelling.defined()
                                ? travelling.narrow(0, 0, count)
                                : gathered.narrow(0, owner * layout.largest, count);
    body({text, layout.first_of(owner)});
    if (travelling.defined() && step + 1 < group.num_ranks())
      travelling =
          group.send_receive(travelling, neighbour(group, -1), neighbour(group, 1))->wait();
  }
}

}  // namespace triphase::dist
