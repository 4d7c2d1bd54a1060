// SPDX-License-Identifier: Apache-2.0
#include "dist/gradient_reducer.hpp"

#include "base/hash.hpp"
#include "dist/runtime.hpp"

#include <ATen/ops/zeros.h>

#include <chrono>
#include <map>
#include <set>
#include <tuple>

// Note [Gradient order]
// Buckets follow the parameters in reverse, because backward makes the last layers' gradients
// first, and leave in the order in which they were opened. Both are functions of the parameter list
// alone, so that all ranks make the same collectives in the same order, whatever backward did on
// each.

namespace triphase::dist {
namespace {

struct Slot {
  std::string name;
  at::Tensor parameter;
  at::Tensor view;  ///< its gradient: a part of the bucket with the parameter's strides
};

struct Bucket {
  at::ScalarType dtype;
  at::Device device;
  std::vector<Slot> slots;
  std::int64_t numel = 0;
  at::Tensor flat;
};

std::int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.numel() * static_cast<std::int64_t>(tensor.element_size());
}

void check_parameters(const std::vector<std::pair<std::string, at::Tensor>>& parameters) {
  std::set<const void*> seen;
  for (const auto& [name, parameter] : parameters) {
    TRIPHASE_CHECK(InternalError,
                   parameter.defined() && parameter.requires_grad() && parameter.is_leaf(), "'",
                   name, "' is no trainable parameter");
    TRIPHASE_CHECK(InternalError, parameter.is_non_overlapping_and_dense(), "parameter '", name,
                   "' has gaps in memory: sizes ", parameter.sizes(), ", strides ",
                   parameter.strides());
    TRIPHASE_CHECK(InternalError, seen.insert(parameter.unsafeGetTensorImpl()).second,
                   "parameter '", name, "' is given twice");
  }
}

std::vector<Bucket> lay_out(const std::vector<std::pair<std::string, at::Tensor>>& parameters,
                            std::int64_t bucket_bytes) {
  std::vector<Bucket> buckets;
  std::map<std::tuple<at::ScalarType, at::DeviceType>, std::size_t> open;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    const auto& [name, parameter] = *it;
    const auto key = std::make_tuple(parameter.scalar_type(), parameter.device().type());
    const auto found = open.try_emplace(key, buckets.size());
    if (found.second) buckets.push_back({parameter.scalar_type(), parameter.device(), {}, 0, {}});
    Bucket& bucket = buckets[found.first->second];
    bucket.slots.push_back({name, parameter, {}});
    bucket.numel += parameter.numel();
    const auto bytes = bucket.numel * static_cast<std::int64_t>(parameter.element_size());
    if (bytes >= bucket_bytes) open.erase(found.first);
  }
  return buckets;
}

std::string describe(const std::vector<Bucket>& buckets) {
  std::string text;
  for (std::size_t i = 0; i < buckets.size(); ++i)
    for (const Slot& slot : buckets[i].slots)
      text += triphase::str("bucket ", i, ": ", slot.name, " ", at::toString(buckets[i].dtype), " ",
                            slot.parameter.sizes(), " strides ", slot.parameter.strides(), "\n");
  return text;
}

}  // namespace

struct GradientReducer::State {
  ProcessGroup& group;
  std::vector<Bucket> buckets;
  std::uint64_t layout_hash = 0;
};

GradientReducer::GradientReducer(ProcessGroup& group,
                                 std::vector<std::pair<std::string, at::Tensor>> parameters,
                                 GradientReducerOptions options) {
  agree_on(group, [&] { check_parameters(parameters); });
  state_ = std::make_unique<State>(State{group, lay_out(parameters, options.bucket_bytes)});
  const std::string layout = describe(state_->buckets);
  agree_equal(group, layout, "the trainable parameters");
  state_->layout_hash = xxh3(layout);
  for (Bucket& bucket : state_->buckets) {
    bucket.flat = at::zeros({bucket.numel}, at::TensorOptions(bucket.dtype).device(bucket.device));
    std::int64_t offset = 0;
    for (Slot& slot : bucket.slots) {
      slot.view = bucket.flat.as_strided(slot.parameter.sizes(), slot.parameter.strides(), offset);
      slot.parameter.mutable_grad() = slot.view;
      offset += slot.parameter.numel();
    }
  }
}

GradientReducer::~GradientReducer() = default;

void GradientReducer::zero_gradients() {
  for (Bucket& bucket : state_->buckets) bucket.flat.zero_();
}

// See Note [Gradient order].
ReduceReport GradientReducer::reduce() {
  for (const Bucket& bucket : state_->buckets)
    for (const Slot& slot : bucket.slots)
      TRIPHASE_CHECK(InternalError, slot.parameter.grad().is_same(slot.view), "the gradient of '",
                     slot.name,
                     "' is no longer the reducer's own (somebody replaced or dropped it). Use "
                     "zero_gradients().");
  const auto start = std::chrono::steady_clock::now();
  ReduceReport report;
  std::vector<WorkPtr> works;
  for (const Bucket& bucket : state_->buckets) {
    works.push_back(state_->group.all_reduce(bucket.flat, ReduceOp::kSum));
    report.bytes += bytes_of(bucket.flat);
  }
  for (const WorkPtr& work : works) static_cast<void>(work->wait());
  report.num_buckets = num_buckets();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

std::uint64_t GradientReducer::layout_hash() const { return state_->layout_hash; }

std::int64_t GradientReducer::num_buckets() const {
  return static_cast<std::int64_t>(state_->buckets.size());
}

}  // namespace triphase::dist
