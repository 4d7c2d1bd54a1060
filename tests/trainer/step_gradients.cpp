// SPDX-License-Identifier: Apache-2.0
#include "tests/trainer/step_gradients.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "models/weights.hpp"
#include "tests/dist/contrastive_case.hpp"
#include "trainer/loop/train_step.hpp"
#include "trainer/loop/trainable_model.hpp"

namespace triphase::test {
namespace {

constexpr std::int64_t kPairsPerRank = 5;

/// What decides which model there is.
struct ModelKind {
  std::string method, compute, loss;
};

struct Mode {
  std::int64_t num_micro_batches = 1;  ///< of a rank's five pairs: 5, 3 + 2 or 1 + 1 + 1 + 1 + 1
  std::string positives, negatives, transport;
  bool has_phenotypes = false;

  [[nodiscard]] std::string name(const ModelKind& kind) const {
    return str(kind.method, " ", kind.compute, " ", kind.loss, " in ", num_micro_batches,
               " micro_batches, ", positives, ", ", negatives, ", ", transport,
               has_phenotypes ? ", phenotypes" : "");
  }
};

/// Two modes for each number of micro batches; over the four kinds of a loss every value meets each
/// loss and number of micro batches.
std::vector<Mode> modes_of(std::int64_t kind) {
  const std::vector<std::string> positives{"pair", "patient", "text"};
  const std::vector<std::string> negatives{"global", "site", "global", "local"};
  std::vector<Mode> modes;
  for (const std::int64_t num_micro_batches : {1, 2, 5})
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto n = static_cast<std::size_t>((2 * kind + i + num_micro_batches) % 8);
      Mode mode{num_micro_batches, positives[n % 3], negatives[(n / 2) % 4],
                n % 2 == 0 ? "gather" : "ring", n % 3 == 1};
      if (mode.negatives == "local") mode.transport = "gather";
      modes.push_back(mode);
    }
  return modes;
}

trainer::RunConfig config_of(const ModelKind& kind, const Mode& mode, int num_ranks) {
  const std::int64_t micro_pairs =
      (kPairsPerRank + mode.num_micro_batches - 1) / mode.num_micro_batches;
  ConfigSources sources;
  sources.sets = {"model.preset=merlin_tiny",
                  "schedule.max_steps=1",
                  "optimizer.grad_clip_norm=0",
                  "loss.temperature_init=0.2",
                  "adapt.text.rank=2",
                  "adapt.image.rank=2",
                  "adapt.method=" + kind.method,
                  "precision.compute=" + kind.compute,
                  "loss.kind=" + kind.loss,
                  "loss.positives=" + mode.positives,
                  "loss.negatives=" + mode.negatives,
                  "loss.transport=" + mode.transport,
                  str("loss.phenotype_weight=", mode.has_phenotypes ? 0.7 : 0.0),
                  str("batch.global_pairs=", kPairsPerRank * num_ranks),
                  str("batch.micro_pairs=", micro_pairs)};
  if (kind.loss == "siglip") sources.sets.emplace_back("loss.bias_init=-1.5");
  return trainer::load_run_config(sources);
}

/// All ranks' pairs. Patients have two or three studies, also on other ranks and sites; reports are
/// some of seven; sites are three.
data::Batch joined_batch(std::int64_t total) {
  const at::Tensor index = at::arange(total, at::kLong);
  const at::Tensor lengths = (index * 3).remainder(7) + 4;
  const at::Tensor places = at::arange(10, at::kLong);
  data::Batch batch;
  batch.volumes = (at::arange(total * 8 * 8 * 6, at::kFloat) * 1.7).sin().view({total, 1, 8, 8, 6});
  batch.mask = places.unsqueeze(0).lt(lengths.unsqueeze(1)).to(at::kLong);
  batch.tokens = at::where(batch.mask.eq(1),
                           (index.unsqueeze(1) * 37 + places * places * 11).remainder(900) + 4, 1);
  batch.labels = (at::arange(total * 3, at::kLong).remainder(4) - 1)
                     .clamp_max(1)
                     .view({total, 3})
                     .to(at::kChar);
  batch.index = index;
  return batch;
}

at::Tensor positive_ids(const Mode& mode, const at::Tensor& index) {
  if (mode.positives == "patient") return (index * 5).remainder(index.size(0) / 2 + 1);
  if (mode.positives == "text") return (index * index).remainder(7) + 100;
  return {};
}

at::Tensor negative_ids(const Mode& mode, const at::Tensor& index) {
  return mode.negatives == "site" ? index.remainder(3) * 11 : at::Tensor();
}

data::Batch part_of(const data::Batch& joined, const Mode& mode, int rank) {
  const auto rows = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.narrow(0, rank * kPairsPerRank, kPairsPerRank) : tensor;
  };
  return {.volumes = rows(joined.volumes),
          .tokens = rows(joined.tokens),
          .mask = rows(joined.mask),
          .labels = rows(joined.labels),
          .index = rows(joined.index),
          .positive_ids = rows(positive_ids(mode, joined.index)),
          .negative_ids = rows(negative_ids(mode, joined.index))};
}

/// Loss of the joined batch in one pass, by the formulas.
at::Tensor one_process_loss(models::TwoTower& model, const data::Batch& batch, const Mode& mode) {
  const at::Tensor volumes = batch.volumes.to(model->log_scale().scalar_type());
  const models::Embeddings rows =
      model->forward(volumes, batch.tokens, batch.mask, mode.has_phenotypes);
  const at::Tensor& index = batch.index;
  const auto same = [](const at::Tensor& ids) { return ids.unsqueeze(1).eq(ids); };
  at::Tensor compared = same(at::zeros_like(index));
  if (mode.negatives == "site") compared = same(negative_ids(mode, index));
  if (mode.negatives == "local") compared = same(index.div(kPairsPerRank, "floor"));
  const at::Tensor ids = positive_ids(mode, index);
  const at::Tensor logits = model->log_scale().exp() * at::matmul(rows.image, rows.text.t());
  at::Tensor loss = dense_loss(logits, model->logit_bias(), compared,
                               compared & same(ids.defined() ? ids : index));
  if (!mode.has_phenotypes) return loss;
  const at::Tensor known = batch.labels.ge(0).to(logits.scalar_type());
  const at::Tensor truth = batch.labels.clamp_min(0).to(logits.scalar_type());
  const at::Tensor entropy = at::binary_cross_entropy_with_logits(
      rows.phenotype_logits.slice(1, 0, 3), truth, known, {}, at::Reduction::Sum);
  return loss + 0.7 * entropy / known.sum();
}

/// Random towers send all reports to nearly one row, and the gradient is then a difference of nearly
/// equal terms: larger token weights take them apart. Factors B begin at zero, where factors A have no
/// gradient.
void move_weights(models::TwoTower& model) {
  const at::NoGradGuard no_gradients;
  for (auto& [name, tensor] : models::base_state(model))
    if (name.ends_with("word_embeddings.weight")) tensor.mul_(50);
  for (auto& [name, tensor] : models::adapter_state(model))
    if (name.ends_with("lora_B.weight"))
      tensor.copy_(
          (at::arange(tensor.numel(), tensor.options()) * 2.3).sin().mul(0.1).view_as(tensor));
}

struct OneProcess {
  double loss = 0;
  std::vector<at::Tensor> gradients;
};

OneProcess one_process(models::TwoTower& model, const data::Batch& joined, const Mode& mode) {
  std::vector<at::Tensor> parameters;
  for (const auto& item : models::trainable_parameters(model)) parameters.push_back(item.second);
  const at::Tensor loss = one_process_loss(model, joined, mode);
  return {loss.item<double>(),
          torch::autograd::grad({loss}, parameters, {}, std::nullopt, false, true)};
}

/// Against float64, in which float32 leaves the model. In float32 0.3 % of the gradients, sums that nearly
/// cancel, are further off than 2e-6, as they are in one process in float32.
void expect_gradients(models::TwoTower& model, const data::Batch& joined, const Mode& mode,
                      double loss, const std::string& name) {
  const double tolerance = model->log_scale().scalar_type() == at::kFloat ? 5e-6 : 1e-12;
  const auto named = models::trainable_parameters(model);
  std::vector<at::Tensor> found;
  for (const auto& item : named) found.push_back(item.second.grad().to(at::kDouble, false, true));
  model->to(at::kDouble);
  const OneProcess expected = one_process(model, joined, mode);
  EXPECT_NEAR(loss, expected.loss, tolerance * (1 + loss)) << name;
  for (std::size_t i = 0; i < named.size(); ++i) {
    const at::Tensor& gradient = expected.gradients[i];
    ASSERT_TRUE(gradient.defined()) << named[i].first;
    const double size = gradient.abs().max().item<double>();
    const double distance = (found[i] - gradient).abs().max().item<double>();
    EXPECT_LE(distance, tolerance * std::max(size, 1e-3)) << named[i].first << ", " << name;
  }
}

/// Every mode of one kind of model. An optimizer step of size zero leaves weights and gradients.
std::int64_t expect_gradients_of(const ModelKind& kind, const std::vector<Mode>& modes,
                                 dist::ProcessGroup& group) {
  const data::Batch joined = joined_batch(kPairsPerRank * group.num_ranks());
  for (const Mode& mode : modes) {
    const trainer::RunConfig config = config_of(kind, mode, group.num_ranks());
    trainer::TrainableModel trainable = trainer::build_trainable_model(config);
    move_weights(trainable.model);
    const auto parameters = models::trainable_parameters(trainable.model);
    trainer::Optimizer optimizer(parameters, config.optimizer);
    const dist::Overlap overlap =
        mode.transport == "ring" ? dist::Overlap::kOn : dist::Overlap::kOff;
    dist::GradientReducer reducer(group, parameters, {.bucket_bytes = 16384, .overlap = overlap});
    trainer::TrainStep step(trainable.model, group, optimizer, reducer, config);
    const double loss = step.run(part_of(joined, mode, group.rank()), /*lr_factor=*/0, 0).loss;
    if (group.rank() == 0)
      expect_gradients(trainable.model, joined, mode, loss,
                       str(group.num_ranks(), " ranks, ", mode.name(kind)));
    group.barrier();
  }
  return std::ssize(modes);
}

}  // namespace

std::int64_t expect_one_process_gradients(dist::ProcessGroup& group) {
  std::int64_t num_modes = 0;
  std::int64_t number = 0;
  std::set<std::string> met;
  for (const std::string loss : {"infonce", "siglip"})
    for (const std::string method : {"full", "peft"})
      for (const std::string compute : {"float64", "float32"}) {
        const std::vector<Mode> modes = modes_of(number++);
        for (const Mode& mode : modes)
          for (const std::string& part :
               {mode.positives, mode.transport, mode.negatives, str(mode.has_phenotypes)})
            met.insert(str(loss, mode.num_micro_batches, part));
        num_modes += expect_gradients_of({method, compute, loss}, modes, group);
      }
  EXPECT_EQ(met.size(),
            2U * 3U * (3 + 2 + 3 + 2));  // each with each loss and number of micro batches
  return num_modes;
}

}  // namespace triphase::test
