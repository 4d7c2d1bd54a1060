// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/gradient_buckets.hpp"
#include "dist/process_group.hpp"
#include "dist/reduce_queue.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace triphase::dist {

/// Whether buckets leave during backward: begun by the gradient's hook where the group has a device, on
/// a thread for communication elsewhere. kAuto: always with a device; else where every rank has a
/// hardware thread to spare (dist/spare_cores.hpp) and MPI allows threads. The sums have the same bits
/// either way.
enum class Overlap { kAuto, kOn, kOff };

/// What gradients travel as. kBfloat16: each rank's are rounded to bfloat16, added in float32 in rank
/// order, and the sum is rounded to bfloat16 once more. With r = 2^-8 (half a unit in the last place
/// of 1) and gradients g of N ranks the error of a sum is at most
///   r (2 + r) sum |g| + (N - 1) 2^-23 sum |g|.
enum class WireDtype { kGradient, kBfloat16 };

struct GradientReducerOptions {
  std::int64_t bucket_bytes = std::int64_t{16} << 20;
  Overlap overlap = Overlap::kAuto;
  WireDtype wire_dtype = WireDtype::kGradient;
  /// Every rank gets the sums of its own part of each bucket only: see own_slices().
  bool is_sharded = false;
  /// Sums are formed over one complete binary tree, so that 1, 2, 4 ... ranks get the same bits from
  /// the same leaves: see end_leaf(). Not with overlap, sharding or a narrower wire.
  bool is_ordered = false;
};

struct ReduceReport {
  std::int64_t bytes = 0;  ///< gradient bytes this rank gave to reductions
  std::int64_t num_buckets = 0;
  double seconds = 0;          ///< that reductions were on their way
  double exposed_seconds = 0;  ///< of them, what reduce() waited for
};

/// Sums gradients over the ranks: of the given (trainable) parameters and nothing else. Gradients
/// live as views in flat buckets, one dtype each, in the reverse of the given order (the order in
/// which backward makes them ready), so that a reduction copies nothing. The layout is a function
/// of names, shapes and dtypes; the constructor checks that it is the same on every rank.
///
/// A step of one backward pass:
///     zero_gradients();  last_pass([&] { loss.backward(); });  reduce();
/// A step of several (gradient caching), which accumulate:
///     zero_gradients();  passes([&] { first.backward(); arm(); last.backward(); });  reduce();
/// Nothing leaves before arm(). A gradient that an earlier pass completed (the log-scale's, a tower
/// that the last pass does not reach) does not hold others up for longer than to the end of the last
/// pass: reduce() sends what is left. No parameter may get a gradient twice within the last pass
/// (two calls of backward(), or recomputation that accumulates by itself).
class GradientReducer {
 public:
  /// Collective over group. The group must outlive the reducer.
  /// @throws AgreedError of kind CommError when ranks hold different parameters; of kind
  /// ConfigError for Overlap::kOn where MPI does not allow threads; InternalError for options that
  /// exclude each other
  GradientReducer(ProcessGroup& group, std::vector<std::pair<std::string, at::Tensor>> parameters,
                  GradientReducerOptions options = {});
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// Sets every gradient to zero, keeping the views. Before the first backward of a step.
  void zero_gradients();
  /// Runs `backward`, the passes of a step, and agrees on its outcome as agree_on() does. From arm()
  /// on buckets leave, in fixed order, each when its last gradient is there. After an error on any
  /// rank all ranks have sent all buckets, so that none waits for another.
  /// @throws InternalError when a gradient arrives twice. Collective over group.
  void passes(const std::function<void()>& backward);
  /// Within passes(): what follows is the last pass. Purely local.
  void arm();
  /// When ordered: what was accumulated since the last call is a leaf of the tree; gradients are zero
  /// then. Called for every leaf, in their order or in the reverse. Purely local.
  void end_leaf();
  /// passes() of a single pass.
  void last_pass(const std::function<void()>& backward);
  /// Sends the buckets that have not left (without passes(): all) and waits for all. The sums are
  /// in the gradients then; when sharded, in those of own_slices() alone, and the others hold
  /// nothing of use. Collective over group.
  /// @throws InternalError when someone replaced a .grad by a tensor of their own; when ordered, unless
  ///         leaves of a rank and ranks are powers of two
  ReduceReport reduce();

  /// The elements that this rank's optimizer is to update: all, or when sharded its part of each
  /// bucket. The parts of all ranks cover each element once.
  [[nodiscard]] std::vector<ParameterSlice> own_slices() const;
  /// Calls take(parameter, tensor of its shape and strides) for every parameter, put together from
  /// what each rank has for its own_slices(). The tensor lives for the call.
  /// @param values [end - begin] for each of own_slices(), of the parameter's dtype
  /// Collective over group.
  void gather(const std::vector<at::Tensor>& values,
              const std::function<void(std::int64_t, const at::Tensor&)>& take);

  /// Of the last reductions, bucket by bucket. May be asked at any time, also within backward.
  [[nodiscard]] std::vector<BucketRecord> log() const;
  /// Whether buckets leave during passes().
  [[nodiscard]] bool has_overlap() const;
  /// Hash of names, shapes, dtypes and bucket bounds.
  [[nodiscard]] std::uint64_t layout_hash() const;
  [[nodiscard]] std::int64_t num_buckets() const;
  [[nodiscard]] ProcessGroup& group() const;

 private:
  struct State;
  class ReadyHook;
  std::unique_ptr<State> state_;
};

}  // namespace triphase::dist
