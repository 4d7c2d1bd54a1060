// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/train_loop.hpp"

#include <chrono>
#include <cmath>

#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/epoch_plan.hpp"
#include "dist/collective_place.hpp"
#include "dist/node_group.hpp"
#include "dist/runtime.hpp"
#include "trainer/build_model.hpp"
#include "trainer/loop/stage_data.hpp"
#include "trainer/optim/schedule.hpp"
#include "trainer/shared_weights.hpp"
#include "trainer/torch_setup.hpp"

namespace triphase::trainer {
namespace {

/// What tells validations apart where keep_best keeps none: for early stopping.
const std::string kLoss = "validation_loss";

namespace fs = std::filesystem;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<std::string> all_hosts(dist::ProcessGroup& group) {
  const std::string here = dist::host_name();
  std::vector<std::string> hosts;
  for (int rank = 0; rank < group.num_ranks(); ++rank)
    hosts.push_back(dist::broadcast_text(group, here, rank));
  return hosts;
}

/// What decides which samples a step reads must be as it was, or the cursor in the checkpoint means
/// nothing.
void check_same_data(const fs::path& checkpoint, const RunConfig& now, const TrainState& state,
                     const std::string& data_hash) {
  const RunConfig then = checkpoint_config(checkpoint);
  const auto require = [&](bool is_equal, const std::string& what, const auto& was,
                           const auto& is) {
    TRIPHASE_CHECK(CheckpointError, is_equal, "checkpoint '", checkpoint.string(),
                   "' was written with ", what, " ", was, ", this run has ", is,
                   " (its samples would be others). Set it back, or start another run.");
  };
  require(then.run.seed == now.run.seed, "run.seed", then.run.seed, now.run.seed);
  require(then.batch.global_pairs == now.batch.global_pairs, "batch.global_pairs",
          then.batch.global_pairs, now.batch.global_pairs);
  require(then.federated.local_steps == now.federated.local_steps, "adapt.federated_steps",
          then.federated.local_steps, now.federated.local_steps);
  require(then.data.train_split == now.data.train_split, "data.train_split", then.data.train_split,
          now.data.train_split);
  require(then.data.sites == now.data.sites, "data.sites", "others", "those of its configuration");
  require(state.data_hash == data_hash, "data of hash", state.data_hash, data_hash);
}

void add(StepSeconds& sum, const StepSeconds& more) {
  sum.data += more.data;
  sum.forward += more.forward;
  sum.loss += more.loss;
  sum.backward += more.backward;
  sum.reduce += more.reduce;
  sum.reduce_exposed += more.reduce_exposed;
  sum.optimizer += more.optimizer;
}

Json seconds_json(const StepSeconds& sum, std::int64_t steps) {
  const auto mean = [&](double seconds) { return seconds / static_cast<double>(steps); };
  return Json{{"data", mean(sum.data)},
              {"forward", mean(sum.forward)},
              {"loss", mean(sum.loss)},
              {"backward", mean(sum.backward)},
              {"reduce", mean(sum.reduce)},
              {"reduce_exposed", mean(sum.reduce_exposed)},
              {"optimizer", mean(sum.optimizer)}};
}

}  // namespace

TrainLoop::TrainLoop(RunConfig config, TrainLoopOptions options, dist::ProcessGroup& group,
                     Logger& log)
    : config_(std::move(config)),
      options_(std::move(options)),
      group_(group),
      log_(log),
      folder_{config_.run_dir()} {
  const dist::CollectivePlace place("train: start");
  dist::agree_equal(group_, config_.resolved_toml, "the configuration");
  const auto node = dist::make_node_group(group_);
  const std::filesystem::path staging = stage_on_nodes(config_, group_, *node, log_);
  dist::agree_on(group_, [&] {
    if (config_.federated.local_steps == 0)
      static_cast<void>(pairs_per_rank(config_, group_.num_ranks()));
    data_ = open_train_data(config_, models::model_preset(config_.model.preset), staging);
    data_.is_pinned = options_.device.is_cuda();
    prompts_ = has_validation(config_) ? validation_prompts(config_, *data_.cache) : prompts_;
  });
  if (config_.federated.local_steps > 0)
    federation_ = std::make_unique<Federation>(data_, config_, group_);
  dist::agree_on(group_, [&] {
    steps_per_epoch_ = federation_ ? federation_->rounds_per_epoch() : steps_per_epoch(data_, config_);
    total_steps_ = total_steps(config_.schedule, steps_per_epoch_);
    if (has_validation(config_))
      check_keep_best(config_.checkpoint.keep_best, prompts_, *data_.cache, data_.validation);
  });
  models::TwoTower base = build_base_model_on_nodes(config_, group_, *node);
  dist::agree_on(group_, [&] {
    model_ = make_trainable(config_, std::move(base), options_.device);
  });
  const auto parameters = models::trainable_parameters(model_.model);
  dist::ProcessGroup& step_group = federation_ ? federation_->group() : group_;
  reducer_ = std::make_unique<dist::GradientReducer>(step_group, parameters,
                                                     reducer_options(config_.distributed));
  dist::agree_on(group_, [&] {
    optimizer_ = config_.distributed.shard_optimizer
                     ? std::make_unique<Optimizer>(parameters, config_.optimizer, *reducer_)
                     : std::make_unique<Optimizer>(parameters, config_.optimizer);
  });
  state_.data_hash = data_.cache->data_hash();
  start_or_resume(*node);
  agree_on_start();
  train_step_ =
      std::make_unique<TrainStep>(model_.model, step_group, *optimizer_, *reducer_, config_);
  write_run_facts();
}

TrainLoop::~TrainLoop() = default;

void TrainLoop::start_or_resume(dist::ProcessGroup& node) {
  std::string checkpoint;
  dist::agree_on(group_, [&] {
    if (group_.rank() != 0) return;
    const auto found = open_run_folder(folder_, options_.resume,
                                       [&](const std::string& line) { log_.warning(line); });
    if (found) checkpoint = found->string();
  });
  checkpoint = dist::broadcast_text(group_, checkpoint);
  if (checkpoint.empty()) return;
  const std::string data_hash = state_.data_hash;
  read_checkpoint_on_nodes(checkpoint, model_.model, *optimizer_, state_, group_, node);
  dist::agree_on(group_, [&] { check_same_data(checkpoint, config_, state_, data_hash); });
  if (fs::path(checkpoint).parent_path() == folder_.checkpoints()) saved_step_ = state_.step;
  const fs::path best = folder_.checkpoints() / checkpoint_name(state_.best_step);
  if (dist::any_rank(group_, group_.rank() == 0 && state_.best_step >= 0 && fs::exists(best)))
    best_saved_ = state_.best_step;
  log_.info("resume checkpoint=", checkpoint, " step=", state_.step, " epoch=", state_.epoch);
}

void TrainLoop::agree_on_start() {
  dist::agree_equal(group_, data_.cache->data_hash(), "the hash of the data");
  dist::agree_equal(group_, hash_weights(model_.model), "the hash of the weights at the start");
}

void TrainLoop::write_run_facts() {
  const RunFacts facts{.hosts = all_hosts(group_),
                       .threads = options_.threads,
                       .device = describe_device(options_.device),
                       .mpi = options_.mpi,
                       .backend = group_.backend(),
                       .num_updates = total_steps_,
                       .updates_per_epoch = steps_per_epoch_};
  dist::agree_on(group_, [&] {
    if (group_.rank() != 0) return;
    write_file_atomically(folder_.root / "config.toml", config_.resolved_toml);
    Json environment = environment_json(config_, data_, model_.plan, facts);
    if (federation_) environment["federated"] = federation_->json();
    write_json(folder_.root / "environment.json", environment);
    metrics_ = std::make_unique<MetricsLog>(folder_.metrics(), state_.step);
  });
  log_.info("train method=", config_.adapt.method, " ranks=", group_.num_ranks(),
            " threads=", options_.threads, " device=", describe_device(options_.device), " steps=", total_steps_,
            " steps_per_epoch=", steps_per_epoch_, " trainable=", model_.plan.num_trainable,
            " of=", model_.plan.num_base_parameters, " percent=", model_.plan.trainable_percent());
}

bool TrainLoop::is_finished() const {
  const std::int64_t patience = config_.schedule.early_stop_patience;
  return state_.step >= total_steps_ ||
         (patience > 0 && state_.validations_without_gain >= patience);
}

TrainResult TrainLoop::run() {
  progress_ = std::make_unique<Progress>(
      "train", total_steps_,
      ProgressOptions{.enabled = options_.show_progress && group_.rank() == 0});
  if (state_.step > 0) progress_->advance(state_.step);
  TrainResult result;
  while (!is_finished() && !result.stopped_on_request) result.stopped_on_request = !run_epoch();
  progress_->finish();
  if (saved_step_ != state_.step) save();
  result.steps = state_.step;
  result.last_checkpoint = (folder_.checkpoints() / checkpoint_name(saved_step_)).string();
  result.best_checkpoint = best_saved_ < 0
                               ? result.last_checkpoint
                               : (folder_.checkpoints() / checkpoint_name(best_saved_)).string();
  dist::agree_on(group_, [&] {
    if (group_.rank() == 0)
      mark_best_checkpoint(folder_.checkpoints(),
                           fs::path(result.best_checkpoint).filename().string());
  });
  log_.info(result.stopped_on_request ? "stopped on request" : "done", " step=", state_.step,
            " best_step=", state_.best_step, " skipped_steps=", state_.skipped_steps);
  return result;
}

bool TrainLoop::run_epoch() {
  std::unique_ptr<data::BatchLoader> loader;
  dist::agree_on(group_, [&] {
    loader = open_rest_of_epoch();
  });
  const std::int64_t epoch = state_.epoch;
  while (state_.epoch == epoch && !is_finished()) {
    const dist::CollectivePlace place("train: batch", state_.step + 1);
    if (agreed_stop()) return false;
    const auto start = std::chrono::steady_clock::now();
    const StepReport report = run_step(*loader);
    interval_.wall += seconds_since(start);
    after_step(report);
  }
  return true;
}

std::unique_ptr<data::BatchLoader> TrainLoop::open_rest_of_epoch() const {
  if (federation_)
    return federation_->open_rounds(state_.step, steps_per_epoch_ - state_.step_in_epoch,
                                    state_.epoch);
  return open_epoch(data_, config_,
                    {.epoch = state_.epoch,
                     .step_in_epoch = state_.step_in_epoch,
                     .rank = group_.rank(),
                     .num_ranks = group_.num_ranks()});
}

bool TrainLoop::agreed_stop() {
  const bool is_asked = options_.stop_requested && options_.stop_requested();
  std::error_code ignored;
  const bool is_halted = group_.rank() == 0 && fs::exists(folder_.halt(), ignored);
  const double limit = config_.run.max_seconds;
  const bool is_time_up = limit > 0 && options_.seconds_since_start() >= limit;
  if (!dist::any_rank(group_, is_asked || is_halted || is_time_up)) return false;
  if (is_time_up) log_.info("run.max_seconds has passed seconds=", limit);
  if (is_halted) fs::remove(folder_.halt(), ignored);  // it has been heard; the next start goes on
  return true;
}

StepReport TrainLoop::run_step(data::BatchLoader& loader) {
  const double factor = lr_factor(config_.schedule, state_.step, total_steps_);
  const StepReport report =
      federation_ ? federation_->run_round(loader, *train_step_, *optimizer_,
                                           models::trainable_parameters(model_.model), factor,
                                           state_.step)
                  : run_pooled_step(loader, factor);
  count_skips(report);
  return report;
}

StepReport TrainLoop::run_pooled_step(data::BatchLoader& loader, double lr_factor) {
  const auto start = std::chrono::steady_clock::now();
  std::optional<data::Batch> batch;
  double own_data_seconds = 0;
  dist::agree_on(group_, [&] {
    batch = loader.next();
    own_data_seconds = seconds_since(start);
    TRIPHASE_CHECK(InternalError, batch.has_value(), "epoch ", state_.epoch,
                   " ran out of batches");
  });
  const double data_seconds = seconds_since(start);
  StepReport report = train_step_->run(*batch, lr_factor, state_.step);
  report.seconds.data = data_seconds;
  report.own_seconds.data = own_data_seconds;
  return report;
}

std::int64_t TrainLoop::pairs_per_step() const {
  return federation_ ? federation_->pairs_per_round() : config_.batch.global_pairs;
}

void TrainLoop::count_skips(const StepReport& report) {
  state_.consecutive_skips = report.is_skipped ? state_.consecutive_skips + 1 : 0;
  if (!report.is_skipped) return;
  ++state_.skipped_steps;
  log_.warning("skipped step=", state_.step + 1, " loss=", report.loss,
               " grad_norm=", report.grad_norm, " in_a_row=", state_.consecutive_skips);
  dist::agree_on(group_, [&] {
    TRIPHASE_CHECK(
        NumericsError, state_.consecutive_skips < kConsecutiveSkipsMax,
        "loss or gradient was not finite in ", state_.consecutive_skips,
        " steps in a row, the last one step ", state_.step + 1,
        ". Lower optimizer.lr, raise schedule.warmup_steps, or start from an earlier checkpoint.");
  });
}

void TrainLoop::after_step(const StepReport& report) {
  ++state_.step;
  ++state_.step_in_epoch;
  state_.pairs_seen += pairs_per_step();
  add(interval_.seconds, report.seconds);
  interval_.own_seconds += report.own_seconds;
  ++interval_.steps;
  if (options_.on_step) options_.on_step(state_.step, report);
  progress_->advance(1, str("loss ", report.loss));
  const bool is_last = state_.step >= total_steps_;
  if (state_.step % config_.run.log_every_steps == 0 || is_last) log_step(report);

  const bool is_epoch_end = state_.step_in_epoch >= steps_per_epoch_;
  if (is_epoch_end) {
    ++state_.epoch;
    state_.step_in_epoch = 0;
  }
  if (is_validation_due(is_epoch_end)) validate_and_compare();
  const std::int64_t every = config_.checkpoint.every_steps;
  const bool is_save_due = every > 0 ? state_.step % every == 0 : is_epoch_end;
  const bool is_best = !config_.checkpoint.keep_best.empty() && state_.best_step == state_.step;
  if (is_save_due || is_last || is_best) save();
}

void TrainLoop::log_step(const StepReport& report) {
  const dist::CollectivePlace place("train: log");
  const double pairs = static_cast<double>(pairs_per_step() * interval_.steps);
  Json record{
      {"step", state_.step},
      {"epoch", state_.epoch},
      {"pairs_seen", state_.pairs_seen},
      {"loss", report.loss},
      {"contrastive_loss", report.contrastive_loss},
      {"phenotype_loss", report.phenotype_loss},
      {"temperature", report.temperature},
      {"grad_norm", report.grad_norm},
      {"lr", config_.optimizer.lr * lr_factor(config_.schedule, state_.step - 1, total_steps_)},
      {"skipped_steps", state_.skipped_steps},
      {"pairs_per_second", pairs / interval_.wall},
      {"seconds", seconds_json(interval_.seconds, interval_.steps)},
      {"bytes_reduced", report.bytes_reduced},
      {"ranks", straggler_figures(group_, interval_.own_seconds, interval_.steps)}};
  if (federation_) record["bytes_exchanged"] = report.bytes_exchanged;
  if (report.logit_bias) record["logit_bias"] = *report.logit_bias;
  interval_ = {};
  dist::agree_on(group_, [&] {
    if (metrics_) metrics_->append(record);
  });
}

bool TrainLoop::is_validation_due(bool is_epoch_end) const {
  if (data_.validation.empty()) return false;
  if (state_.step >= total_steps_) return true;
  if (config_.evaluate.every_steps > 0) return state_.step % config_.evaluate.every_steps == 0;
  return is_epoch_end && state_.epoch % config_.evaluate.every_epochs == 0;
}

void TrainLoop::validate_and_compare() {
  const dist::CollectivePlace place("train: validation");
  const ValidationReport report = validate(model_.model, data_, prompts_, config_, group_);
  const std::string& metric = config_.checkpoint.keep_best.empty() ? kLoss : config_.checkpoint.keep_best;
  const double value = validation_metric(report, metric);
  const bool is_better = std::isfinite(value) &&
                         (state_.best_step < 0 || (is_lower_better(metric) ? value < state_.best_value
                                                                           : value > state_.best_value));
  state_.validations_without_gain = is_better ? 0 : state_.validations_without_gain + 1;
  if (is_better) {
    state_.best_value = value;
    state_.best_step = state_.step;
  }
  const Json record{{"step", state_.step}, {"epoch", state_.epoch}, {"validation", report.json()}};
  dist::agree_on(group_, [&] {
    if (metrics_) metrics_->append(record);
  });
  log_.info("validation step=", state_.step, " loss=", report.loss, " mean_auc=", report.mean_auc,
            is_better ? " best" : "");
}

void TrainLoop::save() {
  if (saved_step_ == state_.step) return;
  const dist::CollectivePlace place("train: checkpoint");
  const bool keeps_best = !config_.checkpoint.keep_best.empty();
  const bool is_best = keeps_best && state_.best_step == state_.step;
  const std::int64_t best = is_best ? state_.step : best_saved_;
  models::NamedTensors moments;
  if (group_.rank() == 0 || optimizer_->is_sharded()) moments = optimizer_->state();
  dist::agree_on(group_, [&] {
    if (group_.rank() != 0) return;
    metrics_->sync();
    const fs::path folder =
        write_checkpoint(folder_.checkpoints(), model_.model, moments, state_, config_);
    if (is_best) mark_best_checkpoint(folder_.checkpoints(), folder.filename().string());
    std::vector<std::string> kept{
        folder.filename().string()};  // even beside a later one that was passed over
    if (best >= 0) kept.push_back(checkpoint_name(best));
    prune_checkpoints(folder_.checkpoints(), config_.checkpoint.keep_last, kept);
  });
  saved_step_ = state_.step;
  best_saved_ = best;
}

}  // namespace triphase::trainer
