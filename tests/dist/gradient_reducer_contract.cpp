// SPDX-License-Identifier: Apache-2.0
#include "dist/gradient_reducer.hpp"

#include "dist/host_group.hpp"
#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

namespace triphase::test {
namespace {

using dist::BucketRecord;
using dist::GradientReducer;
using dist::GradientReducerOptions;
using dist::Overlap;
using dist::ProcessGroup;

TRIPHASE_CONTRACT(GradientReducerContract);

using Parameters = std::vector<std::pair<std::string, at::Tensor>>;

struct Shape {
  std::vector<std::int64_t> sizes;
  at::ScalarType dtype;
  bool is_channels_last = false;
};

const std::vector<Shape> kShapes = {{{3, 4}, at::kFloat},    {{5}, at::kBFloat16},
                                    {{}, at::kDouble},       {{4, 3, 2, 2, 2}, at::kFloat, true},
                                    {{0, 7}, at::kFloat},    {{2, 5, 1, 1, 1}, at::kFloat, true},
                                    {{6, 2}, at::kBFloat16}, {{3, 2, 3, 3, 3}, at::kDouble, true},
                                    {{17}, at::kFloat}};

/// Parameters of several dtypes and layouts, the same on every rank.
Parameters make_parameters() {
  Parameters parameters;
  for (std::size_t i = 0; i < kShapes.size(); ++i) {
    at::Tensor values = rank_values(0, kShapes[i].sizes, kShapes[i].dtype, i);
    if (kShapes[i].is_channels_last) values = values.contiguous(at::MemoryFormat::ChannelsLast3d);
    parameters.emplace_back("p" + std::to_string(i), values.requires_grad_());
  }
  return parameters;
}

/// Makes every used parameter's gradient rank_values(rank, ..., 100 + i), by a backward through the
/// graph.
void run_backward(const Parameters& parameters, int rank, std::size_t unused) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor& p = parameters[i].second;
    if (i == unused) continue;
    (p * rank_values(rank, p.sizes(), p.scalar_type(), 100 + i)).sum().backward();
  }
}

constexpr std::size_t kUnused = 3;

void expect_sums(const Parameters& parameters, int num_ranks, const std::string& where) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor& p = parameters[i].second;
    at::Tensor expected = serial_sum(num_ranks, p.sizes(), p.scalar_type(), 100 + i);
    if (i == kUnused) expected = at::zeros_like(expected);
    EXPECT_TRUE(same_bits(p.grad(), expected.contiguous(at::MemoryFormat::Contiguous)))
        << parameters[i].first << ", " << where;
    EXPECT_EQ(p.grad().strides(), p.strides());
  }
}

/// A step through last_pass(); without it, buckets leave in reduce().
void run_step(GradientReducer& reducer, const Parameters& parameters, int rank, bool has_last_pass,
              std::size_t unused = kUnused) {
  reducer.zero_gradients();
  if (has_last_pass)
    reducer.last_pass([&] { run_backward(parameters, rank, unused); });
  else
    run_backward(parameters, rank, unused);
}

TEST_P(GradientReducerContract, TheSumIsTheSerialSumForEveryBucketSizeOrderAndOverlap) {
  GetParam().run([](ProcessGroup& group) {
    for (const Overlap overlap : {Overlap::kOff, Overlap::kOn}) {
      for (const bool is_reversed : {false, true}) {
        for (const std::int64_t bucket_bytes : {1, 64, 300, 16 << 20}) {
          const Parameters parameters = make_parameters();
          Parameters given = parameters;
          if (is_reversed) std::reverse(given.begin(), given.end());
          GradientReducer reducer(group, given, {.bucket_bytes = bucket_bytes, .overlap = overlap});
          EXPECT_EQ(reducer.has_overlap(), overlap == Overlap::kOn);
          for (const bool has_last_pass : {false, true, true}) {
            run_step(reducer, parameters, group.rank(), has_last_pass);
            static_cast<void>(reducer.reduce());
            expect_sums(parameters, group.num_ranks(),
                        str("bucket of ", bucket_bytes, ", last pass ", has_last_pass));
          }
        }
      }
    }
  });
}

// Two passes, of which the first is not armed; the second reaches half of the parameters.
TEST_P(GradientReducerContract, OfSeveralPassesOnlyTheLastLetsBucketsLeave) {
  GetParam().run([](ProcessGroup& group) {
    const Parameters parameters = make_parameters();
    const Parameters half(parameters.begin(), parameters.begin() + 5);
    GradientReducer reducer(group, parameters, {.bucket_bytes = 1, .overlap = Overlap::kOn});
    for (int step = 0; step < 2; ++step) {
      reducer.zero_gradients();
      reducer.passes([&] {
        run_backward(parameters, group.rank(), parameters.size());
        for (const BucketRecord& record : reducer.log()) EXPECT_EQ(record.ready_seconds, 0);
        reducer.arm();
        run_backward(half, group.rank(), half.size());
      });
      EXPECT_EQ(reducer.reduce().num_buckets, 8);
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const at::Tensor& p = parameters[i].second;
        const auto own = [&](int rank) {
          const at::Tensor once = rank_values(rank, p.sizes(), p.scalar_type(), 100 + i);
          return i < half.size() ? once + once : once;
        };
        const at::ScalarType wide =
            p.scalar_type() == at::kBFloat16 ? at::kFloat : p.scalar_type();
        at::Tensor expected = own(0).to(wide);
        for (int r = 1; r < group.num_ranks(); ++r) expected = expected + own(r).to(wide);
        EXPECT_TRUE(same_bits(p.grad(), expected.to(p.scalar_type()))) << parameters[i].first;
      }
    }
  });
}

/// A chain whose last gradient is that of `first`: h = first * 2, loss = sum(h * last).
struct Chain {
  Parameters parameters;
  /// Runs backward, and `between` when the gradient of `last` is there and that of `first` is not.
  void backward(const std::function<void()>& between) const {
    const at::Tensor h = parameters[0].second * 2;
    h.register_hook([&](const at::Tensor&) { between(); });
    (h * parameters[1].second).sum().backward();
  }
};

Chain make_chain() {
  return {{{"first", rank_values(0, {50}, at::kFloat, 1).requires_grad_()},
           {"last", rank_values(0, {50}, at::kFloat, 2).requires_grad_()}}};
}

bool comes_true(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition() && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  return condition();
}

/// Whether the first bucket's sum has been begun, and where the reducer looks by itself, is there.
bool has_first_left(const GradientReducer& reducer, ProcessGroup& group) {
  const BucketRecord first = reducer.log()[0];
  return (dist::has_device(group) ? first.sent_seconds : first.done_seconds) > 0;
}

TEST_P(GradientReducerContract, TheFirstBucketLeavesBeforeTheLastGradientIsReady) {
  GetParam().run([](ProcessGroup& group) {
    const Chain chain = make_chain();
    for (const Overlap overlap : {Overlap::kOn, Overlap::kOff}) {
      GradientReducer reducer(group, chain.parameters, {.bucket_bytes = 1, .overlap = overlap});
      for (int step = 0; step < 2; ++step) {
        reducer.zero_gradients();
        bool has_left = false;
        reducer.last_pass([&] {
          chain.backward([&] {
            has_left = overlap == Overlap::kOn &&
                       comes_true([&] { return has_first_left(reducer, group); });
          });
        });
        const dist::ReduceReport report = reducer.reduce();
        EXPECT_EQ(has_left, overlap == Overlap::kOn);
        const std::vector<BucketRecord> log = reducer.log();
        EXPECT_EQ(log.size(), 2U);
        for (const BucketRecord& record : log) {
          EXPECT_LE(record.ready_seconds, record.sent_seconds);
          EXPECT_LE(record.sent_seconds, record.done_seconds);
          EXPECT_EQ(record.bytes, 200);
        }
        EXPECT_LE(log[0].sent_seconds, log[1].sent_seconds);
        EXPECT_EQ(log[0].sent_seconds <= log[1].ready_seconds, overlap == Overlap::kOn);
        if (!dist::has_device(group)) {
          EXPECT_LE(log[0].done_seconds, log[1].sent_seconds);
          EXPECT_EQ(log[0].done_seconds <= log[1].ready_seconds, overlap == Overlap::kOn);
        }
        EXPECT_GE(report.seconds, log[0].done_seconds - log[0].sent_seconds);
        EXPECT_GT(report.exposed_seconds, 0);
        EXPECT_EQ(report.bytes, 400);
      }
    }
  });
}

// The last rank fails when the others' first bucket waits for it, or is gone.
TEST_P(GradientReducerContract, ABackwardThatThrowsOnOneRankThrowsOnAllAndTheNextStepIsSound) {
  GetParam().run([](ProcessGroup& group) {
    const Chain chain = make_chain();
    const bool fails = group.rank() == group.num_ranks() - 1;
    for (const Overlap overlap : {Overlap::kOn, Overlap::kOff}) {
      for (const bool is_early : {true, false}) {
        GradientReducer reducer(group, chain.parameters, {.bucket_bytes = 1, .overlap = overlap});
        expect_error<dist::AgreedError>(
            [&] {
              reducer.last_pass([&] {
                TRIPHASE_CHECK(DataError, !(fails && is_early), "a bad gradient");
                chain.backward([&] { TRIPHASE_CHECK(DataError, !fails, "a bad gradient"); });
              });
            },
            ExitCode::kBadData, {"a bad gradient", group.num_ranks() > 1 ? "rank" : ""});
        reducer.zero_gradients();
        reducer.last_pass([&] { chain.backward([] {}); });
        static_cast<void>(reducer.reduce());
        const at::Tensor& first = chain.parameters[0].second;
        EXPECT_TRUE(
            at::allclose(chain.parameters[1].second.grad(), first * 2 * group.num_ranks()));
      }
    }
  });
}

TEST_P(GradientReducerContract, AGradientThatComesTwiceInTheLastPassIsFound) {
  GetParam().run([](ProcessGroup& group) {
    const Chain chain = make_chain();
    GradientReducer reducer(group, chain.parameters, {.bucket_bytes = 1, .overlap = Overlap::kOn});
    expect_error<dist::AgreedError>(
        [&] {
          reducer.last_pass([&] {
            chain.backward([] {});
            chain.backward([] {});
          });
        },
        ExitCode::kInternal, {"'last'", "twice"});
  });
}

TEST_P(GradientReducerContract, HooksGoWithTheReducer) {
  GetParam().run([](ProcessGroup& group) {
    const Chain chain = make_chain();
    const GradientReducerOptions options{.bucket_bytes = 1, .overlap = Overlap::kOn};
    auto old = std::make_unique<GradientReducer>(group, chain.parameters, options);
    GradientReducer reducer(group, chain.parameters, options);
    old.reset();  // leaves the newer one's hooks
    reducer.zero_gradients();
    reducer.last_pass([&] {
      chain.backward([&] {
        EXPECT_TRUE(comes_true([&] { return has_first_left(reducer, group); }));
      });
    });
    static_cast<void>(reducer.reduce());
  });
}

/// Everything that every rank owns: how often each element of each parameter is there.
std::vector<at::Tensor> ownership(GradientReducer& reducer, const Parameters& parameters,
                                  ProcessGroup& group) {
  std::vector<at::Tensor> counts;
  for (const auto& [name, p] : parameters) counts.push_back(at::zeros({p.numel()}, at::kLong));
  for (const dist::ParameterSlice& slice : reducer.own_slices())
    counts[static_cast<std::size_t>(slice.parameter)].slice(0, slice.begin, slice.end) += 1;
  for (at::Tensor& each : counts) each = group.all_reduce(each, dist::ReduceOp::kSum)->wait();
  return counts;
}

TEST_P(GradientReducerContract, ShardsCoverEachElementOnceHoldTheSumsAndAreGathered) {
  GetParam().run([](ProcessGroup& group) {
    for (const Overlap overlap : {Overlap::kOff, Overlap::kOn}) {
      for (const std::int64_t bucket_bytes : {1, 64, 300, 16 << 20}) {
        const Parameters parameters = make_parameters();
        GradientReducer reducer(
            group, parameters,
            {.bucket_bytes = bucket_bytes, .overlap = overlap, .is_sharded = true});
        for (const at::Tensor& counts : ownership(reducer, parameters, group))
          EXPECT_TRUE(counts.eq(1).all().item<bool>());
        run_step(reducer, parameters, group.rank(), true);
        static_cast<void>(reducer.reduce());
        std::vector<at::Tensor> sums;
        for (const dist::ParameterSlice& slice : reducer.own_slices())
          sums.push_back(dist::slice_of(
              parameters[static_cast<std::size_t>(slice.parameter)].second.grad(), slice));
        std::size_t num_taken = 0;
        reducer.gather(sums, [&](std::int64_t parameter, const at::Tensor& whole) {
          const auto i = static_cast<std::size_t>(parameter);
          const at::Tensor& p = parameters[i].second;
          at::Tensor expected = serial_sum(group.num_ranks(), p.sizes(), p.scalar_type(), 100 + i);
          if (i == kUnused) expected = at::zeros_like(expected);
          EXPECT_TRUE(same_bits(whole, expected.contiguous(at::MemoryFormat::Contiguous)))
              << parameters[i].first << " bucket of " << bucket_bytes;
          EXPECT_EQ(whole.strides(), p.strides());
          ++num_taken;
        });
        EXPECT_EQ(num_taken, parameters.size());
      }
    }
  });
}

/// The bound that dist::WireDtype states, from the float64 sum; gradients that are bfloat16 already
/// are rounded only as ever.
TEST_P(GradientReducerContract, Bfloat16OnTheWireKeepsToItsBoundAtHalfTheBytes) {
  GetParam().run([](ProcessGroup& group) {
    const double r = std::ldexp(1, -8);
    const int n = group.num_ranks();
    for (const Overlap overlap : {Overlap::kOff, Overlap::kOn}) {
      const Parameters parameters{{"a", rank_values(0, {64, 33}, at::kFloat, 0).requires_grad_()},
                                  {"b", rank_values(0, {40}, at::kDouble, 1).requires_grad_()}};
      GradientReducer reducer(group, parameters,
                              {.overlap = overlap, .wire_dtype = dist::WireDtype::kBfloat16});
      run_step(reducer, parameters, group.rank(), true, parameters.size());
      const std::int64_t bytes = reducer.reduce().bytes;
      EXPECT_EQ(bytes, n == 1 ? 4 * 64 * 33 + 8 * 40 : 2 * (64 * 33 + 40));
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const at::Tensor& p = parameters[i].second;
        at::Tensor exact = at::zeros(p.sizes(), at::kDouble);
        at::Tensor magnitude = at::zeros(p.sizes(), at::kDouble);
        for (int rank = 0; rank < n; ++rank) {
          const at::Tensor g =
              rank_values(rank, p.sizes(), p.scalar_type(), 100 + i).to(at::kDouble);
          exact += g;
          magnitude += g.abs();
        }
        const at::Tensor error = (p.grad().to(at::kDouble) - exact).abs();
        const double most = r * (2 + r) + (n - 1) * std::ldexp(1, -23);
        EXPECT_TRUE((error <= most * magnitude).all().item<bool>());
        if (n == 1) {
          EXPECT_EQ(error.max().item<double>(), 0);
        } else {
          EXPECT_GT(error.max().item<double>(), 0);
        }
        const at::Tensor all = group.all_gather(p.grad().reshape({1, -1}).contiguous())->wait();
        for (int rank = 1; rank < n; ++rank) EXPECT_TRUE(same_bits(all[0], all[rank]));
      }
    }
  });
}

TEST_P(GradientReducerContract, BytesAndBucketsAreCountedExactly) {
  GetParam().run([](ProcessGroup& group) {
    std::int64_t bytes = 0;
    const Parameters parameters = make_parameters();
    for (const auto& [name, p] : parameters) bytes += static_cast<std::int64_t>(p.nbytes());
    GradientReducer one_by_one(group, parameters, {1});
    EXPECT_EQ(one_by_one.num_buckets(), 8);  // the empty parameter shares its neighbour's
    EXPECT_EQ(one_by_one.reduce().bytes, bytes);
    EXPECT_EQ(one_by_one.reduce().num_buckets, 8);
    GradientReducer together(group, parameters);
    EXPECT_EQ(together.num_buckets(), 3);  // one for each dtype
    EXPECT_EQ(together.reduce().bytes, bytes);
    EXPECT_GE(together.reduce().seconds, 0);
    GradientReducer nothing(group, {});
    EXPECT_EQ(nothing.num_buckets(), 0);
    EXPECT_EQ(nothing.reduce().bytes, 0);
  });
}

TEST_P(GradientReducerContract, OnlyTheGivenParametersAreTouched) {
  GetParam().run([](ProcessGroup& group) {
    Parameters parameters = make_parameters();
    const at::Tensor frozen = parameters[0].second.detach();
    const at::Tensor left_out = parameters[1].second;
    parameters.erase(parameters.begin(), parameters.begin() + 2);
    GradientReducer reducer(group, parameters);
    (left_out * 2).sum().backward();
    const at::Tensor own = left_out.grad().clone();
    static_cast<void>(reducer.reduce());
    EXPECT_TRUE(same_bits(left_out.grad(), own));
    EXPECT_FALSE(frozen.grad().defined());
  });
}

TEST_P(GradientReducerContract, GradientsAccumulateInPlaceInTheBuckets) {
  GetParam().run([](ProcessGroup& group) {
    const Parameters parameters = make_parameters();
    GradientReducer reducer(group, parameters);
    std::vector<void*> places;
    for (const auto& [name, p] : parameters) places.push_back(p.grad().data_ptr());
    for (int step = 0; step < 3; ++step) {
      reducer.zero_gradients();
      for (int micro = 0; micro < 2; ++micro) run_backward(parameters, 0, parameters.size());
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const at::Tensor& p = parameters[i].second;
        EXPECT_EQ(p.grad().data_ptr(), places[i]);
        const at::Tensor once = rank_values(0, p.sizes(), p.scalar_type(), 100 + i);
        EXPECT_TRUE(same_bits(p.grad(), once + once));
      }
      static_cast<void>(reducer.reduce());
    }
  });
}

TEST_P(GradientReducerContract, TheLayoutFollowsNamesShapesDtypesAndBucketBounds) {
  GetParam().run([](ProcessGroup& group) {
    const auto hash = [&](const Parameters& parameters, std::int64_t bucket_bytes = 64) {
      const GradientReducer reducer(group, parameters, {bucket_bytes});
      dist::agree_equal(group, std::to_string(reducer.layout_hash()), "layout hash");
      return reducer.layout_hash();
    };
    const Parameters base = make_parameters();
    EXPECT_EQ(hash(base), hash(make_parameters()));
    EXPECT_NE(hash(base), hash(base, 1 << 20));
    Parameters other = make_parameters();
    other[0].first = "q";
    EXPECT_NE(hash(base), hash(other));
    other = make_parameters();
    other[0].second = rank_values(0, {4, 3}, at::kFloat).requires_grad_();
    EXPECT_NE(hash(base), hash(other));
    other[0].second = rank_values(0, {3, 4}, at::kDouble).requires_grad_();
    EXPECT_NE(hash(base), hash(other));
  });
}

TEST_P(GradientReducerContract, DifferentParametersOnOneRankAreAnErrorOnAll) {
  GetParam().run([](ProcessGroup& group) {
    if (group.num_ranks() == 1) return;
    const bool is_strange = group.rank() == group.num_ranks() - 1;
    Parameters renamed = make_parameters();
    if (is_strange) renamed[4].first = "strange";
    expect_error<dist::AgreedError>(
        [&] { GradientReducer(group, renamed); }, ExitCode::kCommunication,
        {"trainable parameters", "p4", "strange", str("rank ", group.num_ranks() - 1)});
    Parameters fewer = make_parameters();
    if (is_strange) fewer.pop_back();
    expect_error<dist::AgreedError>([&] { GradientReducer(group, fewer); },
                                    ExitCode::kCommunication, {"disagree"});
  });
}

TEST_P(GradientReducerContract, AWrongListOfParametersIsRefusedOnAllRanks) {
  GetParam().run([](ProcessGroup& group) {
    const auto refuse = [&](const Parameters& parameters, const std::string& word) {
      expect_error<dist::AgreedError>([&] { GradientReducer(group, parameters); },
                                      ExitCode::kInternal, {word});
    };
    const bool is_last = group.rank() == group.num_ranks() - 1;
    const auto with = [&](const at::Tensor& tensor) {
      Parameters parameters = make_parameters();
      if (is_last) parameters.emplace_back("extra", tensor);
      return parameters;
    };
    refuse(with(at::zeros({3})), "'extra' is no trainable parameter");
    refuse(with(at::zeros({3}).requires_grad_() * 2), "'extra' is no trainable parameter");
    refuse(with(at::zeros({4, 4}).slice(1, 0, 2).requires_grad_()), "gaps");
    Parameters twice = make_parameters();
    twice.emplace_back("again", twice[0].second);
    refuse(twice, "'again' is given twice");
  });
}

TEST_P(GradientReducerContract, AReplacedGradientIsFound) {
  GetParam().run([](ProcessGroup& group) {
    const Parameters parameters = make_parameters();
    GradientReducer reducer(group, parameters);
    const auto expect_found = [&] {
      expect_error<InternalError>([&] { static_cast<void>(reducer.reduce()); }, ExitCode::kInternal,
                                  {"'p2'"});
    };
    const at::Tensor& p = parameters[2].second;
    const at::Tensor own = p.grad();
    p.mutable_grad() = own.clone();
    expect_found();
    p.mutable_grad() = at::Tensor();
    expect_found();
    p.mutable_grad() = own;
    static_cast<void>(reducer.reduce());
  });
}

}  // namespace
}  // namespace triphase::test
