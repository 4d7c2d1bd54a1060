// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_step.hpp"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "dist/collective_place.hpp"
#include "dist/runtime.hpp"
#include "trainer/build_model.hpp"
#include "trainer/compute_scope.hpp"
#include "trainer/loop/joined_rows.hpp"
#include "trainer/loop/phenotype_loss.hpp"

// Note [Ordered steps]
// Under distributed.reduction = "ordered" a step gives the same bits on 1, 2, 4 ... ranks. A micro
// batch is computed alike wherever it is; the loss is formed over the joined rows on every rank, so
// that its sums have one order; gradients are summed over one tree (see Note [Ordered sums]). The
// log-scale's and the bias's gradients are whole on every rank: rank 0's counts, and a sum with
// zeros changes no bit.

namespace triphase::trainer {
namespace {

/// Seconds since it was made or last asked.
class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - last_).count();
  }
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// BatchNorm's running means and variances and its counters; the towers have no other buffers.
std::vector<at::Tensor> moving_statistics(models::TwoTower& model, const RunConfig& config) {
  return config.model.batch_norm == "frozen" ? std::vector<at::Tensor>() : model->buffers();
}

std::vector<at::Tensor> copies(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(tensor.clone());
  return result;
}

}  // namespace

dist::GradientReducerOptions reducer_options(const DistributedOptions& options) {
  return {.bucket_bytes = options.bucket_bytes,
          .overlap = options.overlap == "on"    ? dist::Overlap::kOn
                     : options.overlap == "off" ? dist::Overlap::kOff
                                                : dist::Overlap::kAuto,
          .wire_dtype = options.wire_dtype == "bfloat16" ? dist::WireDtype::kBfloat16
                                                         : dist::WireDtype::kGradient,
          .is_sharded = options.shard_optimizer,
          .is_ordered = options.reduction == "ordered"};
}

TrainStep::TrainStep(models::TwoTower& model, dist::ProcessGroup& group, Optimizer& optimizer,
                     dist::GradientReducer& reducer, const RunConfig& config)
    : model_(model),
      group_(group),
      optimizer_(optimizer),
      reducer_(reducer),
      config_(config),
      passes_(model, {.micro_pairs = config.batch.micro_pairs,
                      .with_phenotypes = config.loss.phenotype_weight > 0,
                      .precision = config.precision,
                      .seed = config.run.seed}),
      alone_(config.distributed.reduction == "ordered" ? dist::make_self_group() : nullptr),
      statistics_(moving_statistics(model, config)) {
  set_execution(model, config.model.batch_norm, config.precision.recompute, &group);
}

void TrainStep::forward_and_loss(const data::Batch& batch, std::int64_t step, StepReport& report) {
  Stopwatch watch;
  models::Embeddings embeddings;
  const dist::CollectivePlace forward_place("train: forward");
  // One rank alone may fail in the towers; the loss is collective.
  dist::agree_on(group_, [&] {
    embeddings = passes_.encode(batch, step);
    finish_on(model_->device());  // so that each phase has its own seconds
    report.own_seconds.forward = watch.seconds();
  });
  report.seconds.forward = watch.lap();
  if (alone_)
    ordered_loss_and_its_backward(embeddings, batch, report);
  else
    loss_and_its_backward(embeddings,
                          {.positive = batch.positive_ids, .negative = batch.negative_ids},
                          batch.labels, group_, report);
  report.seconds.loss = watch.lap();
}

/// @param group the ranks that the pairs are divided among
void TrainStep::loss_and_its_backward(const models::Embeddings& embeddings, const PairIds& ids,
                                      const at::Tensor& labels, dist::ProcessGroup& group,
                                      StepReport& report) {
  const dist::CollectivePlace loss_place("train: loss");
  at::Tensor total =
      contrast(model_, embeddings.image, embeddings.text, ids, config_.loss, group);
  report.contrastive_loss = total.item<double>();
  report.loss = report.contrastive_loss;
  if (embeddings.phenotype_logits.defined()) {
    const at::Tensor logits = embeddings.phenotype_logits.to(embeddings.image.scalar_type());
    const PhenotypeLoss phenotypes = phenotype_loss(logits, labels, group);
    report.phenotype_loss = phenotypes.value;
    report.loss += config_.loss.phenotype_weight * phenotypes.value;
    total = total + config_.loss.phenotype_weight * phenotypes.local;
  }
  const dist::CollectivePlace backward_place("train: backward of the loss");
  dist::agree_on(group_, [&] { total.backward(); });
}

/// See Note [Ordered steps].
void TrainStep::ordered_loss_and_its_backward(models::Embeddings& embeddings,
                                              const data::Batch& batch, StepReport& report) {
  const dist::CollectivePlace place("train: joining rows");
  const JoinedRows rows(embeddings, group_);
  const PairIds ids{.positive = rows.join(batch.positive_ids),
                    .negative = rows.join(batch.negative_ids)};
  const at::Tensor labels =
      embeddings.phenotype_logits.defined() ? rows.join(batch.labels.view(at::kByte)) : at::Tensor();
  loss_and_its_backward(rows.all(), ids, labels.defined() ? labels.view(at::kChar) : labels, *alone_,
                        report);
  rows.hand_back_gradients(embeddings);
  if (group_.rank() == 0) return;
  for (const at::Tensor& scalar : {model_->log_scale(), model_->logit_bias()})
    if (scalar.defined() && scalar.grad().defined()) scalar.grad().zero_();
}

/// Under "local" each rank's statistics moved by its own batch; their mean is what every rank goes on
/// with and saves. Under "sync" they moved alike, as the counters always do.
void TrainStep::average_statistics() {
  if (config_.model.batch_norm != "local") return;
  std::vector<at::Tensor> flat;
  for (const at::Tensor& tensor : statistics_)
    if (tensor.is_floating_point()) flat.push_back(tensor.flatten());
  const at::Tensor mean =
      group_.all_reduce(at::cat(flat), dist::ReduceOp::kSum)->wait() / group_.num_ranks();
  std::int64_t offset = 0;
  for (at::Tensor& tensor : statistics_) {
    if (!tensor.is_floating_point()) continue;
    tensor.copy_(mean.narrow(0, offset, tensor.numel()).view_as(tensor));
    offset += tensor.numel();
  }
}

StepReport TrainStep::run(const data::Batch& batch, double lr_factor, std::int64_t step) {
  StepReport report;
  report.temperature = std::exp(-model_->log_scale().item<double>());
  if (has_logit_bias(config_.loss)) report.logit_bias = model_->logit_bias().item<double>();
  const std::vector<at::Tensor> statistics_before = copies(statistics_);
  reducer_.zero_gradients();
  forward_and_loss(batch, step, report);

  Stopwatch watch;
  const dist::CollectivePlace backward_place("train: backward");
  reducer_.passes([&] {
    passes_.backward([&] { reducer_.arm(); },
                     alone_ ? [&] { reducer_.end_leaf(); } : std::function<void()>());
    finish_on(model_->device());
    report.own_seconds.backward = watch.seconds();
  });
  report.seconds.backward = watch.lap();
  const dist::CollectivePlace update_place("train: gradients and update");
  const dist::ReduceReport reduced = reducer_.reduce();
  report.bytes_reduced = reduced.bytes;
  report.seconds.reduce = reduced.seconds;
  report.seconds.reduce_exposed = watch.lap();

  const at::NoGradGuard no_grad;
  report.grad_norm = std::numeric_limits<double>::quiet_NaN();
  report.is_skipped = true;
  if (std::isfinite(report.loss)) {  // the same bits on every rank, and so is the decision
    const UpdateReport update = optimizer_.update(lr_factor);
    report.own_seconds.optimizer = watch.seconds();
    report.grad_norm = update.grad_norm;
    report.is_skipped = update.is_skipped;
  }
  if (report.is_skipped) {
    for (std::size_t i = 0; i < statistics_.size(); ++i) statistics_[i].copy_(statistics_before[i]);
  } else {
    model_->log_scale().clamp_max_(std::log(config_.loss.scale_max));
    average_statistics();
  }
  report.seconds.optimizer = watch.lap();
  return report;
}

}  // namespace triphase::trainer
