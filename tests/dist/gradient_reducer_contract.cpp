// SPDX-License-Identifier: Apache-2.0
#include "dist/gradient_reducer.hpp"

#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/support/test_support.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

namespace triphase::test {
namespace {

using dist::GradientReducer;
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

TEST_P(GradientReducerContract, TheSumIsTheSerialSumForEveryBucketSizeAndOrder) {
  GetParam().run([](ProcessGroup& group) {
    for (const bool is_reversed : {false, true}) {
      for (const std::int64_t bucket_bytes : {1, 64, 300, 16 << 20}) {
        const Parameters parameters = make_parameters();
        Parameters given = parameters;
        if (is_reversed) std::reverse(given.begin(), given.end());
        GradientReducer reducer(group, given, {bucket_bytes});
        for (int step = 0; step < 2; ++step) {
          reducer.zero_gradients();
          run_backward(parameters, group.rank(), kUnused);
          static_cast<void>(reducer.reduce());
          expect_sums(parameters, group.num_ranks(),
                      str("bucket of ", bucket_bytes, ", step ", step));
        }
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
