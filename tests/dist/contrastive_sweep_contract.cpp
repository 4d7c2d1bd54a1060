// SPDX-License-Identifier: Apache-2.0
// Every kind of contrastive loss on every backend: loss and gradients equal the dense formula by
// autograd on the joined batch, with equal and with different numbers of pairs on the ranks.
#include <ATen/ops/cat.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "base/error.hpp"
#include "tests/dist/backends.hpp"
#include "tests/dist/contrastive_case.hpp"

namespace triphase::test {
namespace {

using dist::ContrastiveLossKind;
using dist::Negatives;
using dist::ProcessGroup;
using dist::TextTransport;

TRIPHASE_CONTRACT(ContrastiveSweepContract);

enum class Positives { kPair, kPatient, kText };

struct SweepCase {
  dist::ContrastiveLossOptions options;
  Positives positives = Positives::kPair;
  at::ScalarType dtype = at::kDouble;
  bool is_ragged = false;

  [[nodiscard]] std::string name() const {
    return str("kind ", static_cast<int>(options.kind), ", negatives ",
               static_cast<int>(options.negatives), ", transport ",
               static_cast<int>(options.transport), ", positives ", static_cast<int>(positives),
               ", ", at::toString(dtype), is_ragged ? ", ragged" : "");
  }
};

std::vector<SweepCase> all_cases() {
  std::vector<SweepCase> cases;
  for (const auto kind : {ContrastiveLossKind::kInfonce, ContrastiveLossKind::kSiglip})
    for (const auto negatives : {Negatives::kGlobal, Negatives::kLocal, Negatives::kGroup})
      for (const auto transport : {TextTransport::kGather, TextTransport::kRing})
        for (const auto positives : {Positives::kPair, Positives::kPatient, Positives::kText})
          for (const auto dtype : {at::kDouble, at::kFloat})
            for (const bool is_ragged : {false, true})
              cases.push_back({{.tile = is_ragged ? 3 : 16,
                                .kind = kind,
                                .negatives = negatives,
                                .transport = transport},
                               positives,
                               dtype,
                               is_ragged});
  return cases;
}

std::vector<std::int64_t> counts_of(const SweepCase& sweep, int num_ranks) {
  std::vector<std::int64_t> counts;
  for (std::int64_t r = 0; r < num_ranks; ++r)
    counts.push_back(sweep.is_ragged ? (3 * r + 5) % 7 : 4);  // 5 1 4 0 3 6 2 5
  return counts;
}

/// The joined batch, with ids that the dense formula can use alone.
dist::ContrastivePairs joined_batch(const SweepCase& sweep, const std::vector<std::int64_t>& counts,
                                    at::Tensor& rank_of) {
  std::vector<at::Tensor> ranks;
  for (std::size_t r = 0; r < counts.size(); ++r)
    ranks.push_back(at::full({counts[r]}, static_cast<std::int64_t>(r), at::kLong));
  rank_of = at::cat(ranks);
  const std::int64_t total = rank_of.size(0);
  const ContrastiveCase values = make_case(total, 8, 10, 77, 0.8);
  const at::Tensor index = at::arange(total, at::kLong);
  dist::ContrastivePairs pairs{values.image.to(sweep.dtype),
                               values.text.to(sweep.dtype),
                               values.log_scale.to(sweep.dtype),
                               {},
                               {},
                               {}};
  if (sweep.options.kind == ContrastiveLossKind::kSiglip)
    pairs.bias = at::full({}, -1.5, sweep.dtype);
  // Patients have two or three studies, also on other ranks and sites; texts are one of three.
  if (sweep.positives == Positives::kPatient)
    pairs.positive_ids = (index * 5).remainder(total / 2 + 1);
  if (sweep.positives == Positives::kText) pairs.positive_ids = (index * index).remainder(7) + 100;
  if (sweep.options.negatives == Negatives::kGroup) pairs.negative_ids = index.remainder(3) * 11;
  return pairs;
}

struct Outcome {
  double loss = 0;
  at::Tensor image, text, log_scale, bias;
  double scale_size = 0, bias_size = 0;  ///< sums of the absolute terms of the two
};

/// In float64, from the values as they were rounded.
Outcome dense_outcome(const dist::ContrastivePairs& pairs, const SweepCase& sweep,
                      const at::Tensor& rank_of) {
  const auto wide = [](const at::Tensor& t) { return leaf(t.to(at::kDouble)); };
  const at::Tensor image = wide(pairs.image), text = wide(pairs.text),
                   scale = wide(pairs.log_scale);
  const at::Tensor bias = pairs.bias.defined() ? wide(pairs.bias) : at::Tensor();
  const std::int64_t total = image.size(0);
  const auto same = [](const at::Tensor& ids) { return at::eq(ids.unsqueeze(1), ids); };
  at::Tensor compared = same(at::zeros_like(rank_of));
  if (sweep.options.negatives == Negatives::kLocal) compared = same(rank_of);
  if (sweep.options.negatives == Negatives::kGroup) compared = same(pairs.negative_ids);
  const at::Tensor positive =
      compared &
      same(pairs.positive_ids.defined() ? pairs.positive_ids : at::arange(total, at::kLong));
  at::Tensor logits = at::exp(scale) * at::matmul(image, text.t());
  logits.retain_grad();
  const at::Tensor loss = dense_loss(logits, bias, compared, positive);
  loss.backward();
  return {loss.item<double>(),
          image.grad(),
          text.grad(),
          scale.grad(),
          bias.defined() ? bias.grad() : at::Tensor(),
          (logits.grad() * logits).abs().sum().item<double>(),
          logits.grad().abs().sum().item<double>()};
}

Outcome tiled_outcome(const dist::ContrastivePairs& joined, const SweepCase& sweep,
                      std::int64_t first, std::int64_t count, ProcessGroup& group) {
  const auto rows = [&](const at::Tensor& t) {
    return t.defined() ? t.narrow(0, first, count) : at::Tensor();
  };
  const dist::ContrastivePairs part{
      leaf(rows(joined.image)),  leaf(rows(joined.text)),
      leaf(joined.log_scale),    joined.bias.defined() ? leaf(joined.bias) : at::Tensor(),
      rows(joined.positive_ids), rows(joined.negative_ids)};
  const at::Tensor loss = dist::global_contrastive_loss(part, group, sweep.options);
  loss.backward();
  const auto summed = [&](const at::Tensor& scalar) {
    if (!scalar.defined()) return at::Tensor();
    return group.all_reduce(scalar.grad().to(at::kDouble), dist::ReduceOp::kSum)->wait();
  };
  return {loss.item<double>(),
          part.image.grad(),
          part.text.grad(),
          summed(part.log_scale),
          summed(part.bias),
          0,
          0};
}

TEST_P(ContrastiveSweepContract, EveryKindEqualsTheDenseFormulaOnTheJoinedBatch) {
  const std::vector<SweepCase> cases = all_cases();
  ASSERT_EQ(cases.size(), 144U);
  GetParam().run([&](ProcessGroup& group) {
    for (const SweepCase& sweep : cases) {
      const std::vector<std::int64_t> counts = counts_of(sweep, group.num_ranks());
      at::Tensor rank_of;
      const dist::ContrastivePairs joined = joined_batch(sweep, counts, rank_of);
      const Outcome expected = dense_outcome(joined, sweep, rank_of);
      std::int64_t first = 0;
      for (int r = 0; r < group.rank(); ++r) first += counts[static_cast<std::size_t>(r)];
      const std::int64_t count = counts[static_cast<std::size_t>(group.rank())];
      const Outcome actual = tiled_outcome(joined, sweep, first, count, group);
      // float32: logits of 10 carry up to 1e-6, and so do their exponentials, relatively.
      const double tolerance = sweep.dtype == at::kFloat ? 2e-6 : 1e-12;
      EXPECT_NEAR(actual.loss, expected.loss, tolerance * (1 + expected.loss)) << sweep.name();
      const auto compare = [&](const at::Tensor& a, const at::Tensor& b, const char* what) {
        if (count == 0) return;
        EXPECT_LT(difference(a.to(at::kDouble), b.narrow(0, first, count)),
                  tolerance * b.abs().max().item<double>())
            << what << ", " << sweep.name();
      };
      compare(actual.image, expected.image, "image");
      compare(actual.text, expected.text, "text");
      EXPECT_LT(difference(actual.log_scale, expected.log_scale), tolerance * expected.scale_size)
          << sweep.name();
      if (!actual.bias.defined()) continue;
      EXPECT_LT(difference(actual.bias, expected.bias), tolerance * expected.bias_size)
          << sweep.name();
    }
  });
}

}  // namespace
}  // namespace triphase::test
