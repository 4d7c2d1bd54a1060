// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/phenotype_loss.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <thread>

namespace triphase::trainer {
namespace {

/// The mean over known labels, written out.
at::Tensor reference(const at::Tensor& logits, const at::Tensor& labels) {
  at::Tensor sum = at::zeros({}, at::kDouble);
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < labels.size(0); ++i) {
    for (std::int64_t f = 0; f < labels.size(1); ++f) {
      const auto label = labels[i][f].item<std::int8_t>();
      if (label < 0) continue;
      const at::Tensor p = at::sigmoid(logits[i][f]);
      sum = sum - (label == 1 ? at::log(p) : at::log(1 - p));
      ++count;
    }
  }
  return sum / std::max<std::int64_t>(count, 1);
}

TEST(PhenotypeLoss, IsTheJoinedBatchsForAnyNumberOfRanks) {
  const at::Tensor all_logits = at::randn({12, 7}, at::kDouble);
  at::Tensor all_labels = at::randint(-1, 2, {12, 5}, at::kLong).to(at::kChar);
  all_labels.slice(0, 0, 4).fill_(-1);  // one rank of three knows nothing
  const at::Tensor joined = all_logits.clone().requires_grad_();
  const at::Tensor expected = reference(joined, all_labels);
  expected.backward();
  for (const int num_ranks : {1, 2, 3, 4}) {
    const auto groups = dist::make_thread_groups(num_ranks);
    const std::int64_t pairs = 12 / num_ranks;
    std::vector<at::Tensor> gradients(groups.size());
    std::vector<double> values(groups.size());
    {
      std::vector<std::jthread> threads;
      for (std::size_t rank = 0; rank < groups.size(); ++rank) {
        threads.emplace_back([&, rank] {
          const auto first = static_cast<std::int64_t>(rank) * pairs;
          const at::Tensor logits = all_logits.narrow(0, first, pairs).clone().requires_grad_();
          const PhenotypeLoss loss = phenotype_loss(
              logits, all_labels.narrow(0, first, pairs).contiguous(), *groups[rank]);
          loss.local.backward();
          gradients[rank] = logits.grad();
          values[rank] = loss.value;
        });
      }
    }
    for (const double value : values) EXPECT_NEAR(value, expected.item<double>(), 1e-13);
    EXPECT_TRUE(at::allclose(at::cat(gradients), joined.grad(), 1e-12, 1e-14)) << num_ranks;
  }
}

TEST(PhenotypeLoss, IsZeroWhenNoLabelIsKnown) {
  const auto self = dist::make_self_group();
  const at::Tensor logits = at::randn({3, 4}).requires_grad_();
  const PhenotypeLoss loss = phenotype_loss(logits, at::full({3, 2}, -1, at::kChar), *self);
  EXPECT_EQ(loss.value, 0);
  loss.local.backward();
  EXPECT_EQ(logits.grad().abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace triphase::trainer
