// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/process_group.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace triphase::dist {

struct GradientReducerOptions {
  std::int64_t bucket_bytes = std::int64_t{16} << 20;
};

struct ReduceReport {
  std::int64_t bytes = 0;  ///< gradient bytes this rank gave to all-reduces
  std::int64_t num_buckets = 0;
  double seconds = 0;  ///< spent waiting
};

/// Sums gradients over the ranks: of the given (trainable) parameters and nothing else. Gradients
/// live as views in flat buckets, one dtype each, in the reverse of the given order (the order in
/// which backward makes them ready), so that a reduction copies nothing. The layout is a function
/// of names, shapes and dtypes; the constructor checks that it is the same on every rank.
class GradientReducer {
 public:
  /// Collective over group. The group must outlive the reducer.
  /// @throws AgreedError of kind CommError when ranks hold different parameters
  GradientReducer(ProcessGroup& group, std::vector<std::pair<std::string, at::Tensor>> parameters,
                  GradientReducerOptions options = {});
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// Sets every gradient to zero, keeping the views. Before the first backward of a step.
  void zero_gradients();
  /// Sums all buckets over the ranks, in fixed order. Collective over group.
  /// @throws InternalError when someone replaced a .grad by a tensor of their own
  ReduceReport reduce();
  /// Hash of names, shapes, dtypes and bucket bounds.
  [[nodiscard]] std::uint64_t layout_hash() const;
  [[nodiscard]] std::int64_t num_buckets() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace triphase::dist
