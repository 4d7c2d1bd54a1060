// SPDX-License-Identifier: Apache-2.0
// Sharers of a batch as threads of this process, against torch's own BatchNorm over the joined
// batch.
#include "models/sync_batch_norm.hpp"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include <barrier>
#include <exception>
#include <functional>
#include <thread>

#include "tests/models/models_test_support.hpp"

namespace triphase::models {
namespace {

using test::max_error;
using test::normal;
using test::TensorMap;
using Sizes = std::vector<std::int64_t>;

/// Calls body(sharer, gather) on a thread for each sharer; rethrows the first one's exception.
void share(std::size_t num_sharers,
           const std::function<void(std::size_t, const GatherRows&)>& body) {
  std::vector<at::Tensor> rows(num_sharers);
  std::vector<std::exception_ptr> errors(num_sharers);
  std::barrier barrier(static_cast<std::ptrdiff_t>(num_sharers));
  at::set_num_threads(1);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < num_sharers; ++i)
      threads.emplace_back([&, i] {
        const GatherRows gather = [&, i](const at::Tensor& row) {
          rows[i] = row;
          barrier.arrive_and_wait();
          const at::Tensor all = at::stack(rows);
          barrier.arrive_and_wait();
          return all;
        };
        try {
          body(i, gather);
        } catch (...) {
          errors[i] = std::current_exception();
          rows[i] = at::Tensor();
          barrier.arrive_and_drop();
        }
      });
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

/// One even and some ragged ways to share a batch.
const std::vector<Sizes> kSplits{{5}, {3, 3}, {1, 4}, {2, 1, 3}, {1, 1, 1, 2}};

std::int64_t total(const Sizes& sizes) {
  std::int64_t sum = 0;
  for (const std::int64_t size : sizes) sum += size;
  return sum;
}

std::vector<at::Tensor> parts_of(const at::Tensor& joined, const Sizes& sizes) {
  return joined.split_with_sizes(sizes, 0);
}

/// Loss of one part: its outputs under given weights, so that the parts' losses add up to the
/// whole's.
at::Tensor weighted(const at::Tensor& y, const at::Tensor& weights) { return (y * weights).sum(); }

BatchNorm random_norm(at::ScalarType dtype) {
  BatchNorm norm(3);
  norm->to(dtype);
  const at::NoGradGuard no_grad;
  norm->weight.copy_(normal({3}, 1, dtype));
  norm->bias.copy_(normal({3}, 2, dtype));
  return norm;
}

/// y, dx (all batches in a row), dweight, dbias (summed), running mean and variance.
TensorMap layer_results(const at::Tensor& x, const Sizes& sizes, bool sync) {
  const at::Tensor weights = normal(x.sizes(), 9, x.scalar_type());
  std::vector<TensorMap> found(sizes.size());
  share(sizes.size(), [&](std::size_t i, const GatherRows& gather) {
    BatchNorm norm = random_norm(x.scalar_type());
    norm->set_mode(sync ? BatchNormMode::kSync : BatchNormMode::kLocal, gather);
    const at::Tensor part = parts_of(x, sizes)[i].detach().requires_grad_();
    const at::Tensor y = norm(part);
    weighted(y, parts_of(weights, sizes)[i]).backward();
    found[i] = {{"y", y.detach()},
                {"dx", part.grad()},
                {"dweight", norm->weight.grad()},
                {"dbias", norm->bias.grad()},
                {"mean", norm->running_mean},
                {"var", norm->running_var},
                {"count", norm->num_batches_tracked.to(at::kDouble)}};
  });
  TensorMap result = found[0];
  for (std::size_t i = 1; i < found.size(); ++i) {
    for (const char* rows : {"y", "dx"}) result[rows] = at::cat({result[rows], found[i][rows]});
    for (const char* sum : {"dweight", "dbias"}) result[sum] = result[sum] + found[i][sum];
    for (const char* same : {"mean", "var", "count"})
      EXPECT_TRUE(at::equal(found[i][same], found[0][same])) << same;
  }
  return result;
}

TEST(SyncBatchNorm, EqualsOneProcessOverTheJoinedBatchWithGradients) {
  for (const at::MemoryFormat format :
       {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast3d})
    for (const Sizes& sizes : kSplits) {
      const at::Tensor x = (3 * normal({total(sizes), 3, 4, 3, 2}, 4, at::kDouble) +
                            normal({1, 3, 1, 1, 1}, 5, at::kDouble))
                               .contiguous(format);
      const TensorMap expected = layer_results(x, {total(sizes)}, false);
      for (const auto& [name, tensor] : layer_results(x, sizes, true))
        EXPECT_LT(max_error(tensor, expected.at(name)), 1e-12) << name << " " << sizes;
    }
}

TEST(SyncBatchNorm, ASharerWithoutAnythingChangesNothing) {
  const at::Tensor x = normal({4, 3, 2, 2, 2}, 4, at::kDouble);
  std::vector<JointStatistics> found(3);
  share(3, [&](std::size_t i, const GatherRows& gather) {
    found[i] = join_statistics(parts_of(x, {0, 4, 0})[i], gather);
  });
  EXPECT_EQ(found[0].count, 32);
  EXPECT_LT(max_error(found[0].mean, x.mean({0, 2, 3, 4})), 1e-14);
  EXPECT_LT(max_error(found[0].variance, x.var({0, 2, 3, 4}, /*unbiased=*/false)), 1e-14);
}

TEST(SyncBatchNorm, LargeMeansKeepTheirVariance) {
  // A sum of squares of 1e6 would leave 1e12 * 2^-53, the fourth digit of a variance of 1.
  const at::Tensor x = normal({6, 3, 4, 4, 4}, 4, at::kDouble) + 1e6;
  share(2, [&](std::size_t i, const GatherRows& gather) {
    const JointStatistics joint = join_statistics(parts_of(x, {2, 4})[i], gather);
    EXPECT_LT(max_error(joint.variance, (x - 1e6).var({0, 2, 3, 4}, false)), 1e-9);
  });
}

TEST(SyncBatchNorm, NarrowInputsHaveStatisticsInFloat32) {
  const at::Tensor x = normal({4, 3, 4, 4, 4}, 4);
  share(2, [&](std::size_t i, const GatherRows& gather) {
    BatchNorm norm = random_norm(at::kFloat);
    norm->set_mode(BatchNormMode::kSync, gather);
    const at::Tensor part = parts_of(x.to(at::kBFloat16), {1, 3})[i].detach().requires_grad_();
    const at::Tensor y = norm(part);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    y.sum().backward();
    EXPECT_EQ(part.grad().scalar_type(), at::kBFloat16);
    EXPECT_EQ(norm->weight.grad().scalar_type(), at::kFloat);
    const at::Tensor rounded = x.to(at::kBFloat16).to(at::kFloat);
    EXPECT_LT(max_error(norm->running_mean, 0.1 * rounded.mean({0, 2, 3, 4})), 1e-6);
  });
}

TEST(SyncBatchNorm, WrongUseIsRefused) {
  BatchNorm norm(3);
  norm->set_mode(BatchNormMode::kSync);
  EXPECT_THROW((void)norm(normal({2, 3, 1, 1, 1}, 1)), InternalError);
  norm->set_mode(BatchNormMode::kSync, [](const at::Tensor& row) { return row; });
  EXPECT_THROW((void)norm(normal({2, 3, 1, 1, 1}, 1)), InternalError);
  norm->set_mode(BatchNormMode::kSync, [](const at::Tensor& row) { return row.unsqueeze(0); });
  EXPECT_THROW((void)norm(normal({1, 3, 1, 1, 1}, 1)), DataError);
  norm->set_mode(BatchNormMode::kLocal);
  EXPECT_THROW((void)norm(normal({1, 3, 1, 1, 1}, 1)), DataError);
  norm->eval();
  EXPECT_NO_THROW((void)norm(normal({1, 3, 1, 1, 1}, 1)));
}

/// The image tower's rows, gradients (summed over sharers) and buffers.
TensorMap tower_results(const at::Tensor& volumes, const Sizes& sizes, BatchNormMode norm,
                        Recompute recompute) {
  const at::Tensor weights = normal({total(sizes), 16}, 9, at::kDouble);
  std::vector<TensorMap> found(sizes.size());
  share(sizes.size(), [&](std::size_t i, const GatherRows& gather) {
    TwoTower model = test::random_model(3);
    model->to(at::kDouble);
    model->train();
    model->image_tower()->set_batch_norm(norm, gather);
    model->image_tower()->set_recompute(recompute);
    const at::Tensor rows =
        model->image_tower()->forward(parts_of(volumes, sizes)[i], false).projection;
    weighted(rows, parts_of(weights, sizes)[i]).backward();
    found[i]["rows"] = rows.detach();
    for (const auto& item : model->named_parameters())
      if (item.value().grad().defined()) found[i]["d " + item.key()] = item.value().grad();
    for (const auto& item : model->named_buffers()) found[i][item.key()] = item.value();
  });
  TensorMap result = found[0];
  for (std::size_t i = 1; i < found.size(); ++i)
    for (const auto& [name, tensor] : found[i]) {
      if (name == "rows")
        result[name] = at::cat({result[name], tensor});
      else if (name.starts_with("d "))
        result[name] = result[name] + tensor;
      else
        EXPECT_TRUE(at::equal(tensor, found[0].at(name))) << name;
    }
  return result;
}

TEST(SyncBatchNorm, TowersThatShareABatchAreOneTowerInEveryRecomputeMode) {
  for (const Sizes& sizes : {Sizes{4}, Sizes{1, 3}, Sizes{2, 1, 2}}) {
    const at::Tensor volumes = normal({total(sizes), 1, 24, 20, 16}, 6, at::kDouble);
    const TensorMap expected =
        tower_results(volumes, {total(sizes)}, BatchNormMode::kLocal, Recompute::kNone);
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlocks, Recompute::kStages}) {
      const TensorMap found = tower_results(volumes, sizes, BatchNormMode::kSync, recompute);
      ASSERT_EQ(found.size(), expected.size());
      for (const auto& [name, tensor] : expected) {
        const double scale = std::max(1.0, tensor.abs().max().item<double>());
        EXPECT_LT(max_error(found.at(name), tensor), 1e-12 * scale) << name << " " << sizes;
        if (name.ends_with("num_batches_tracked")) {
          EXPECT_EQ(found.at(name).item<double>(), 1) << name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace triphase::models
