// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/tower_passes.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cmath>

#include "models/weights.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/build_model.hpp"
#include "trainer/loop/train_data.hpp"
#include "trainer/loop/trainable_model.hpp"

namespace triphase::test {
namespace {

constexpr std::int64_t kPairs = 6;

/// A model and passes over six pairs of the tiny cache.
struct PassesBench {
  PassesBench(const Settings& settings, std::int64_t micro_pairs)
      : config(tiny_run("unused", settings)),
        trainable(trainer::build_trainable_model(config)),
        passes(trainable.model, {.micro_pairs = micro_pairs,
                                 .with_phenotypes = config.loss.phenotype_weight > 0,
                                 .precision = config.precision,
                                 .seed = 5}) {
    at::set_num_threads(1);
    trainer::set_execution(trainable.model, config.model.batch_norm, config.precision.recompute);
    const trainer::TrainData data =
        trainer::open_train_data(config, models::model_preset("merlin_tiny"));
    batch = *trainer::open_epoch(data, config, {})->next();
    const at::NoGradGuard no_gradients;
    for (auto& [name, tensor] : models::adapter_state(trainable.model))
      if (name.ends_with("lora_B.weight"))
        tensor.copy_(at::arange(tensor.numel(), tensor.options()).sin().mul(0.1).view_as(tensor));
  }
  /// A smooth function of the embeddings that treats no pair as another.
  at::Tensor value(const models::Embeddings& rows) const {
    const at::Tensor weights = at::arange(rows.image.numel(), rows.image.options()).cos();
    at::Tensor sum = (rows.image * weights.view_as(rows.image)).sum() +
                     (rows.text * rows.image.flip(1)).square().sum();
    return rows.phenotype_logits.defined() ? sum + rows.phenotype_logits.square().sum() : sum;
  }
  double run(std::int64_t step) {
    for (const auto& parameter : trainable.model->parameters())
      if (parameter.grad().defined()) parameter.grad().zero_();
    const at::Tensor sum = value(passes.encode(batch, step));
    sum.backward();
    passes.backward();
    return sum.item<double>();
  }

  trainer::RunConfig config;
  trainer::TrainableModel trainable;
  trainer::TowerPasses passes;
  data::Batch batch;
};

/// With dropout, a second pass that drew other numbers would differentiate another function.
TEST(TowerPasses, TheSecondPassDifferentiatesTheFirst) {
  for (const std::int64_t micro_pairs : {0, 1, 4})
    for (const std::string recompute : {"\"none\"", "\"blocks\""})
      for (const std::string image_rank : {"2", "0"}) {
        PassesBench bench({{"precision.compute", "\"float64\""},
                           {"precision.recompute", recompute},
                           {"adapt.method", "\"peft\""},
                           {"adapt.image.rank", image_rank},
                           {"adapt.image.dropout", "0.5"},
                           {"adapt.text.dropout", "0.5"},
                           {"loss.phenotype_weight", "1"}},
                          micro_pairs);
        bench.run(3);
        const at::NoGradGuard no_gradients;
        std::vector<at::Tensor> moved;
        double slope = 0;
        for (const auto& [name, tensor] : models::trainable_parameters(bench.trainable.model)) {
          if (!tensor.grad().defined()) continue;  // the log-scale
          moved.push_back(
              at::arange(tensor.numel(), tensor.options()).mul(0.7).sin().view_as(tensor));
          slope += (moved.back() * tensor.grad()).sum().item<double>();
        }
        const double step = 1e-6;
        const auto value_at = [&](double length) {
          std::size_t next = 0;
          for (auto& [name, tensor] : models::trainable_parameters(bench.trainable.model))
            if (tensor.grad().defined()) tensor.add_(moved[next++], length);
          return bench.value(bench.passes.encode(bench.batch, 3)).item<double>();
        };
        const double above = value_at(step);
        const double below = value_at(-2 * step);
        EXPECT_GT(std::abs(slope), 1e-3);
        // The difference quotient errs by the third derivative times 1e-12, and by 1e-16 / 1e-6.
        EXPECT_NEAR((above - below) / (2 * step), slope, 1e-6 * std::abs(slope))
            << micro_pairs << " " << recompute << " " << image_rank;
      }
}

TEST(TowerPasses, DropAlikeInMicroBatchesOfAnySize) {
  const Settings settings{{"adapt.method", "\"peft\""},
                          {"precision.compute", "\"float64\""},
                          {"adapt.image.dropout", "0.5"},
                          {"adapt.text.dropout", "0.5"}};
  const auto rows = [&](std::int64_t micro_pairs) {
    PassesBench bench(settings, micro_pairs);
    return bench.passes.encode(bench.batch, 3);
  };
  const models::Embeddings whole = rows(0);
  for (const std::int64_t micro_pairs : {1, 4}) {
    const models::Embeddings parts = rows(micro_pairs);
    EXPECT_LT((parts.image - whole.image).abs().max().item<double>(), 1e-12);
    EXPECT_LT((parts.text - whole.text).abs().max().item<double>(), 1e-12);
  }
}

TEST(TowerPasses, DropOtherUnitsForEachSampleAndStep) {
  const Settings settings{{"adapt.method", "\"peft\""}, {"adapt.text.dropout", "0.5"}};
  PassesBench bench(settings, 1);
  for (at::Tensor* rows : {&bench.batch.tokens, &bench.batch.mask})
    *rows = rows->narrow(0, 0, 1).repeat({kPairs, 1});
  const at::Tensor first = bench.passes.encode(bench.batch, 0).text.detach();
  for (std::int64_t i = 1; i < kPairs; ++i) EXPECT_FALSE(at::equal(first[0], first[i]));
  EXPECT_TRUE(at::equal(first, bench.passes.encode(bench.batch, 0).text));
  EXPECT_FALSE(at::equal(first, bench.passes.encode(bench.batch, 1).text));
}

thread_local std::int64_t num_convolutions = 0;

/// Convolutions that the image tower computes forward.
std::int64_t convolutions_in(const std::function<void()>& body) {
  num_convolutions = 0;
  const auto count = [](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
    if (std::string_view(call.name()) == "aten::convolution") ++num_convolutions;
    return nullptr;
  };
  const at::CallbackHandle handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}));
  body();
  at::removeCallback(handle);
  return num_convolutions;
}

TEST(TowerPasses, TheLastMicroBatchIsNotRunAgainAndAFrozenTowerNeverIs) {
  const auto convolutions = [](const Settings& settings, std::int64_t micro_pairs) {
    PassesBench bench(settings, micro_pairs);
    return convolutions_in([&] { bench.run(0); });
  };
  const Settings full{{"adapt.method", "\"full\""}};
  const std::int64_t once = convolutions(full, 0);
  EXPECT_GT(once, 10);
  EXPECT_EQ(convolutions(full, 6), once);
  EXPECT_EQ(convolutions(full, 3), 3 * once);
  EXPECT_EQ(convolutions(full, 4), 3 * once);
  EXPECT_EQ(convolutions(full, 1), 11 * once);
  const Settings text_alone{{"adapt.method", "\"peft\""}, {"adapt.image.rank", "0"}};
  EXPECT_EQ(convolutions(text_alone, 1), 6 * convolutions(text_alone, 0));
}

TEST(TowerPasses, RunningStatisticsMoveOncePerMicroBatchAlsoOfAFrozenTower) {
  for (const std::string method : {"\"full\"", "\"peft\""}) {
    PassesBench bench(
        {{"adapt.method", method}, {"adapt.image.rank", "0"}, {"model.batch_norm", "\"local\""}},
        2);
    bench.run(0);
    for (const auto& item : bench.trainable.model->named_buffers())
      if (item.key().ends_with("num_batches_tracked")) {
        EXPECT_EQ(item.value().item<std::int64_t>(), 3) << item.key() << " " << method;
      }
  }
}

/// Bytes that tensors of this thread hold, and their greatest number.
class HeldBytes final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t,
                         c10::Device) override {
    held_ += bytes;
    most_ = std::max(most_, held_);
  }
  [[nodiscard]] bool memoryProfilingEnabled() const override { return true; }
  [[nodiscard]] std::int64_t most() const { return most_; }

 private:
  std::int64_t held_ = 0;
  std::int64_t most_ = 0;
};

std::int64_t most_bytes_in(const std::function<void()>& body) {
  const auto held = std::make_shared<HeldBytes>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, held);
  body();
  return held->most();
}

TEST(TowerPasses, HoldTheActivationsOfOneMicroBatchAtATime) {
  const auto most = [](std::int64_t pairs, std::int64_t micro_pairs) {
    PassesBench bench(Settings{{"adapt.method", "\"full\""}}, micro_pairs);
    bench.batch.volumes = at::ones({kPairs, 1, 32, 32, 24});  // activations outweigh the weights
    for (at::Tensor* rows : {&bench.batch.volumes, &bench.batch.tokens, &bench.batch.mask})
      *rows = rows->narrow(0, 0, pairs);
    bench.run(0);  // from here on gradients exist, as the reducer's do
    return most_bytes_in([&] { bench.run(0); });
  };
  const std::int64_t one = most(1, 0);
  EXPECT_GT(most(6, 0), 2 * one);
  EXPECT_LT(most(6, 1), one + one / 10);
}

}  // namespace
}  // namespace triphase::test
