// SPDX-License-Identifier: Apache-2.0
// The global contrastive loss on every backend: equal to the dense formula on the joined batch.
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "dist/runtime.hpp"
#include "tests/dist/backends.hpp"
#include "tests/dist/contrastive_case.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

using dist::ProcessGroup;
using dist::ReduceOp;

TRIPHASE_CONTRACT(ContrastiveLossContract);

// float64: the sums have up to B * E terms of size up to 100, so 1e-12 is a few hundred roundings.
constexpr double kTolerance = 1e-12;

TEST_P(ContrastiveLossContract, LossAndGradientsEqualTheDenseFormulaOnTheJoinedBatch) {
  GetParam().run([](ProcessGroup& group) {
    std::uint64_t seed = 0;
    for (const auto& [b, width] :
         {std::pair<std::int64_t, std::int64_t>{1, 4}, {2, 3}, {3, 1}, {5, 8}, {4, 33}}) {
      for (const double scale : {0.5, 1 / 0.07, 100.0}) {
        const ContrastiveCase joined = make_case(b * group.num_ranks(), width, scale, ++seed);
        const ContrastiveCase expected = dense_reference(joined);
        const ContrastiveCase gradient = part_of(expected, group);
        for (const std::int64_t tile : {0, 1, 3}) {
          const ContrastiveCase actual = run_loss(part_of(joined, group), group, tile);
          const std::string where = str("b ", b, ", E ", width, ", scale ", scale, ", tile ", tile);
          EXPECT_NEAR(actual.loss, expected.loss, kTolerance * (1 + expected.loss)) << where;
          EXPECT_LT(difference(actual.image, gradient.image), kTolerance * scale) << where;
          EXPECT_LT(difference(actual.text, gradient.text), kTolerance * scale) << where;
          EXPECT_LT(difference(actual.log_scale, expected.log_scale), kTolerance * scale) << where;
        }
      }
    }
  });
}

TEST_P(ContrastiveLossContract, EveryRankHasTheSameBitsRunAfterRun) {
  GetParam().run([](ProcessGroup& group) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      ContrastiveCase part = part_of(make_case(7 * group.num_ranks(), 5, 14, 3), group);
      part = {part.image.to(dtype), part.text.to(dtype), part.log_scale.to(dtype)};
      const ContrastiveCase first = run_loss(part, group, 4);
      const ContrastiveCase second = run_loss(part, group, 4);
      EXPECT_EQ(first.loss, second.loss);
      EXPECT_TRUE(same_bits(first.image, second.image));
      EXPECT_TRUE(same_bits(first.text, second.text));
      const at::Tensor all = group.all_gather(at::full({1}, first.loss, at::kDouble))->wait();
      EXPECT_EQ(all.min().item<double>(), all.max().item<double>());
    }
  });
}

TEST_P(ContrastiveLossContract, GradientsEqualFiniteDifferences) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase joined = make_case(2 * group.num_ranks(), 3, 20, 11);
    const ContrastiveCase actual = run_loss(part_of(joined, group), group, 2);
    constexpr double kStep =
        1e-6;  // error: step^2 times third derivatives (20^3), and 1e-16 / step
    const auto loss_at = [&](at::Tensor ContrastiveCase::*input, std::int64_t element,
                             double step) {
      ContrastiveCase moved = joined;
      moved.*input = (joined.*input).clone();
      (moved.*input).view({-1})[element] += step;
      return run_loss(part_of(moved, group), group, 2).loss;
    };
    const auto slope = [&](at::Tensor ContrastiveCase::*input, std::int64_t element) {
      return (loss_at(input, element, kStep) - loss_at(input, element, -kStep)) / (2 * kStep);
    };
    for (auto input : {&ContrastiveCase::image, &ContrastiveCase::text}) {
      const at::Tensor all = group.all_gather((actual.*input).contiguous())->wait().view({-1});
      for (std::int64_t i = 0; i < all.numel(); ++i)
        EXPECT_NEAR(all[i].item<double>(), slope(input, i), 1e-7);
    }
    EXPECT_NEAR(actual.log_scale.item<double>(), slope(&ContrastiveCase::log_scale, 0), 1e-7);
  });
}

TEST_P(ContrastiveLossContract, ReorderingThePairsReordersTheGradientsAndNothingElse) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase joined = make_case(3 * group.num_ranks(), 4, 14, 5);
    const ContrastiveCase turned{at::flip(joined.image, {0}), at::flip(joined.text, {0}),
                                 joined.log_scale};
    const ContrastiveCase a = run_loss(part_of(joined, group), group, 2);
    const ContrastiveCase b = run_loss(part_of(turned, group), group, 2);
    EXPECT_NEAR(a.loss, b.loss, kTolerance);
    const auto all = [&](const at::Tensor& rows) {
      return group.all_gather(rows.contiguous())->wait();
    };
    EXPECT_LT(difference(at::flip(all(a.image), {0}), all(b.image)), kTolerance);
    EXPECT_LT(difference(at::flip(all(a.text), {0}), all(b.text)), kTolerance);
  });
}

TEST_P(ContrastiveLossContract, ExchangingImagesAndTextsExchangesTheGradients) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase joined = make_case(3 * group.num_ranks(), 4, 14, 6);
    const ContrastiveCase a = run_loss(part_of(joined, group), group, 2);
    const ContrastiveCase b =
        run_loss(part_of({joined.text, joined.image, joined.log_scale}, group), group, 2);
    EXPECT_NEAR(a.loss, b.loss, kTolerance);
    EXPECT_LT(difference(a.image, b.text), kTolerance);
    EXPECT_LT(difference(a.text, b.image), kTolerance);
  });
}

TEST_P(ContrastiveLossContract, ASmallLossKeepsItsDigitsInFloat32) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase joined = make_case(8 * group.num_ranks(), 16, 100, 21, 0.002);
    const auto narrow = [](const at::Tensor& t) { return t.to(at::kFloat); };
    const auto wide = [&](const at::Tensor& t) { return narrow(t).to(at::kDouble); };
    const ContrastiveCase rounded{wide(joined.image), wide(joined.text), wide(joined.log_scale)};
    const ContrastiveCase expected = run_loss(part_of(rounded, group), group, 3);
    const ContrastiveCase part = part_of(joined, group);
    const ContrastiveCase actual =
        run_loss({narrow(part.image), narrow(part.text), narrow(part.log_scale)}, group, 3);
    EXPECT_LT(expected.loss, 1e-2);
    // Logits of 100 carry 4e-6 each in float32, and the loss is a sum of their exponentials: 1e-4
    // of itself; forming max + log(sum) instead costs 4e-6 of absolute error, far more.
    EXPECT_NEAR(actual.loss, expected.loss, 1e-4 * expected.loss + 1e-8);
    EXPECT_LT(difference(actual.image.to(at::kDouble), expected.image), 1e-4);
  });
}

TEST_P(ContrastiveLossContract, GradientsFollowTheGradientThatComesIn) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase part = part_of(make_case(2 * group.num_ranks(), 4, 14, 8), group);
    const ContrastiveCase once = run_loss(part, group);
    const at::Tensor image = leaf(part.image);
    const at::Tensor loss = dist::global_contrastive_loss(image, part.text, part.log_scale, group);
    (loss * -3).backward();  // and a frozen text side costs nothing
    EXPECT_LT(difference(image.grad(), once.image * -3), kTolerance);
  });
}

TEST_P(ContrastiveLossContract, WithoutGradientModeThereIsNoGraph) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase part = part_of(make_case(2 * group.num_ranks(), 4, 14, 8), group);
    const at::NoGradGuard guard;
    EXPECT_FALSE(dist::global_contrastive_loss(leaf(part.image), part.text, part.log_scale, group)
                     .requires_grad());
  });
}

TEST_P(ContrastiveLossContract, AutocastDoesNotReachTheLogits) {
  GetParam().run([](ProcessGroup& group) {
    ContrastiveCase part = part_of(make_case(4 * group.num_ranks(), 6, 50, 9), group);
    part = {part.image.to(at::kFloat), part.text.to(at::kFloat), part.log_scale.to(at::kFloat)};
    const ContrastiveCase plain = run_loss(part, group);
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const ContrastiveCase under = run_loss(part, group);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    EXPECT_EQ(under.loss, plain.loss);
    EXPECT_TRUE(same_bits(under.image, plain.image));
  });
}

TEST_P(ContrastiveLossContract, ANumberThatIsNotFiniteReachesEveryRanksLoss) {
  GetParam().run([](ProcessGroup& group) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      ContrastiveCase part = part_of(make_case(2 * group.num_ranks(), 4, 14, 8), group);
      part.image = part.image.clone();
      if (group.rank() == group.num_ranks() - 1) part.image[0][0] = bad;
      EXPECT_FALSE(std::isfinite(run_loss(part, group).loss));
    }
  });
}

TEST_P(ContrastiveLossContract, OtherWidthsOnOtherRanksAreAnErrorOnAllOfThem) {
  GetParam().run([](ProcessGroup& group) {
    if (group.num_ranks() == 1) return;
    const ContrastiveCase part = make_case(2, group.rank() == 0 ? 3 : 4, 14, 8);
    expect_error<CommError>(
        [&] {
          static_cast<void>(
              dist::global_contrastive_loss(part.image, part.text, part.log_scale, group));
        },
        ExitCode::kCommunication, {"all_gather of Double [2, 3]", "[2, 4]"});
  });
}

TEST_P(ContrastiveLossContract, WrongInputIsRefused) {
  GetParam().run([](ProcessGroup& group) {
    const ContrastiveCase part = make_case(2, 4, 14, 8);
    const auto refuse = [&](const at::Tensor& image, const at::Tensor& text,
                            const at::Tensor& log_scale, std::int64_t tile,
                            const std::string& word) {
      expect_error<InternalError>(
          [&] {
            static_cast<void>(dist::global_contrastive_loss(image, text, log_scale, group, {tile}));
          },
          ExitCode::kInternal, {word});
    };
    refuse(part.image, part.text.narrow(0, 0, 1), part.log_scale, 4, "equal shape");
    refuse(part.image.narrow(0, 0, 0), part.text.narrow(0, 0, 0), part.log_scale, 4, "no rank");
    refuse(part.image.to(at::kBFloat16), part.text.to(at::kBFloat16), part.log_scale, 4,
           "BFloat16");
    refuse(part.image, part.text.to(at::kFloat), part.log_scale, 4, "dtype Double");
    refuse(part.image, part.text, part.log_scale.unsqueeze(0), 4, "0-dim");
    refuse(part.image, part.text, part.log_scale, -1, "tile is -1");
    const auto refuse_pairs = [&](const dist::ContrastivePairs& pairs,
                                  const dist::ContrastiveLossOptions& options,
                                  const std::string& word) {
      expect_error<InternalError>(
          [&] { static_cast<void>(dist::global_contrastive_loss(pairs, group, options)); },
          ExitCode::kInternal, {word});
    };
    dist::ContrastivePairs pairs{part.image, part.text, part.log_scale, {}, {}, {}};
    refuse_pairs(pairs, {.kind = dist::ContrastiveLossKind::kSiglip}, "bias");
    refuse_pairs(pairs, {.negatives = dist::Negatives::kGroup}, "negative_ids");
    pairs.positive_ids = at::zeros({3}, at::kLong);
    refuse_pairs(pairs, {}, "b is 2");
  });
}

/// Another group that counts what rows of embeddings leave or reach this rank, in elements.
class CountingGroup final : public ProcessGroup {
 public:
  CountingGroup(ProcessGroup& group, std::int64_t width) : group_(group), width_(width) {}
  [[nodiscard]] int rank() const override { return group_.rank(); }
  [[nodiscard]] int num_ranks() const override { return group_.num_ranks(); }
  [[nodiscard]] std::string backend() const override { return group_.backend(); }
  dist::WorkPtr all_reduce(at::Tensor tensor, ReduceOp op) override {
    count(tensor, 2 * (num_ranks() - 1));
    return group_.all_reduce(std::move(tensor), op);
  }
  dist::WorkPtr all_gather(at::Tensor rows) override {
    count(rows, num_ranks() - 1);  // of everyone else's
    return group_.all_gather(std::move(rows));
  }
  dist::WorkPtr reduce_scatter(at::Tensor rows) override {
    count(rows.narrow(0, 0, rows.size(0) / num_ranks()), num_ranks() - 1);  // everyone else's block
    return group_.reduce_scatter(std::move(rows));
  }
  dist::WorkPtr broadcast(at::Tensor tensor, int root) override {
    return group_.broadcast(std::move(tensor), root);
  }
  dist::WorkPtr send_receive(at::Tensor out, int to, int from) override {
    count(out, num_ranks() > 1 ? 1 : 0);
    return group_.send_receive(std::move(out), to, from);
  }
  void barrier() override { group_.barrier(); }
  std::unique_ptr<ProcessGroup> split(int color, int key) override {
    return group_.split(color, key);
  }
  [[nodiscard]] std::int64_t elements() const { return elements_; }

 private:
  void count(const at::Tensor& rows, std::int64_t times) {
    if (rows.dim() == 2 && rows.size(1) == width_ && rows.is_floating_point())
      elements_ += times * rows.numel();
  }
  ProcessGroup& group_;
  std::int64_t width_;
  std::int64_t elements_ = 0;
};

TEST_P(ContrastiveLossContract, TextsAndTheirGradientsTravelOnceEach) {
  GetParam().run([](ProcessGroup& group) {
    constexpr std::int64_t kPairs = 6;
    constexpr std::int64_t kWidth = 11;
    const std::int64_t n = group.num_ranks();
    const ContrastiveCase part = part_of(make_case(kPairs * n, kWidth, 14, 3), group);
    for (const auto transport : {dist::TextTransport::kGather, dist::TextTransport::kRing}) {
      CountingGroup counting(group, kWidth);
      const at::Tensor image = leaf(part.image);
      dist::global_contrastive_loss({image, leaf(part.text), leaf(part.log_scale), {}, {}, {}},
                                    counting, {.tile = 4, .transport = transport})
          .backward();
      // 2 (n - 1)/n of B E; in a ring a gradient also comes home, and its text goes round again.
      const std::int64_t times = transport == dist::TextTransport::kGather ? 2 * (n - 1)
                                 : n > 1                                  ? 3 * n - 2
                                                                          : 0;
      EXPECT_EQ(counting.elements(), times * kPairs * kWidth);
    }
  });
}

TEST_P(ContrastiveLossContract, GatherWithGradientIsTheAdjointOfItsForward) {
  GetParam().run([](ProcessGroup& group) {
    const std::int64_t n = group.num_ranks();
    const at::Tensor rows = leaf(rank_values(group.rank(), {2, 3}, at::kDouble));
    const at::Tensor all = dist::gather_with_gradient(rows, group);
    ASSERT_EQ(all.size(0), 2 * n);
    const at::Tensor weights = rank_values(group.rank(), {2 * n, 3}, at::kDouble, 7);
    (all * weights).sum().backward();
    const at::Tensor summed = serial_sum(group.num_ranks(), {2 * n, 3}, at::kDouble, 7);
    EXPECT_TRUE(same_bits(rows.grad(), summed.narrow(0, 2 * group.rank(), 2)));
    // <gather(x), w> summed over the ranks is <x, grad> summed over the ranks.
    const at::Tensor products =
        at::stack({(all * weights).sum().detach(), (rows * rows.grad()).sum().detach()});
    static_cast<void>(group.all_reduce(products, ReduceOp::kSum)->wait());
    EXPECT_NEAR(products[0].item<double>(), products[1].item<double>(),
                1e-9 * (1 + products.abs().max().item<double>()));
  });
}

}  // namespace
}  // namespace triphase::test
