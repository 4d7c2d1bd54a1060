// SPDX-License-Identifier: Apache-2.0
#include "trainer/train.hpp"

#include <cstdio>
#include <optional>

#include "base/file.hpp"
#include "data/epoch_plan.hpp"
#include "trainer/loop/run_folder.hpp"
#include "trainer/loop/stop_request.hpp"
#include "trainer/loop/train_loop.hpp"
#include "trainer/optim/schedule.hpp"
#include "trainer/torch_setup.hpp"

namespace triphase::trainer {
namespace {

/// The caller's logger where it writes a file, else one that writes the run folder's.
Logger make_rank_log(const RunConfig& config, const Logger& log, dist::Runtime& runtime) {
  const std::filesystem::path logs = std::filesystem::path(config.run_dir()) / "logs";
  char name[32];
  std::snprintf(name, sizeof name, "rank-%05d.log", runtime.rank());
  LoggerOptions options = log.options();
  options.file = logs / name;
  std::optional<Logger> made;
  dist::agree_on(runtime.world(), [&] {
    make_output_directory(logs);
    made.emplace(options);
  });
  runtime.record().set_log_file(options.file);
  return std::move(*made);
}

std::string mebibytes(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

std::string describe_steps(const RunConfig& config, const TrainData& data) {
  const std::int64_t per_epoch = steps_per_epoch(data, config);
  const std::int64_t total = total_steps(config.schedule, per_epoch);
  return str("samples           train ", data.train.size(), ", validation ", data.validation.size(),
             "\n", "steps             ", total, " (", per_epoch, " per epoch, ",
             static_cast<double>(total) / static_cast<double>(per_epoch), " epochs), warm-up ",
             config.schedule.warmup_steps, "\n", "data hash         ", data.cache->data_hash(),
             "\n");
}

}  // namespace

TrainResult train(const RunConfig& config, const TrainRequest& request, dist::Runtime& runtime,
                  Logger& log) {
  const TorchSetup torch = set_up_torch(config.precision, runtime, config.distributed.backend);
  std::optional<Logger> own;
  if (log.options().file.empty()) own.emplace(make_rank_log(config, log, runtime));
  warn_of_idle_gpus(torch, own ? *own : log);
  TrainLoop loop(config,
                 {.resume = request.resume,
                  .show_progress = request.show_progress,
                  .threads = torch.threads,
                  .device = torch.device,
                  .mpi = dist::Runtime::library_version(),
                  .stop_requested = stop_requested,
                  .on_step = {}},
                 runtime.world(), own ? *own : log);
  return loop.run();
}

std::string describe_run(const RunConfig& config, int num_ranks) {
  const std::int64_t pairs = pairs_per_rank(config, num_ranks);
  models::TwoTower model(models::model_preset(config.model.preset));
  model->set_logit_bias(has_logit_bias(config.loss));
  const models::AdapterPlan plan = models::plan_adapters(model, config.adapt);
  const TrainData data = open_train_data(config, model->options());
  const MemoryEstimate memory = estimate_memory(plan, config.precision);
  std::string text = plan.table() + "\n";
  text += str("ranks             ", num_ranks, "\n", "pairs             ",
              config.batch.global_pairs, " per step, ", pairs, " per rank");
  const std::int64_t micro_pairs = config.batch.micro_pairs;
  text += micro_pairs > 0 && micro_pairs < pairs
              ? str(" in micro batches of ", micro_pairs, " (gradient caching)\n")
              : "\n";
  text += describe_steps(config, data);
  text += str("gradient bytes    ", mebibytes(memory.gradients),
              " per rank and step given to all-reduces\n");
  text += str("memory per rank   ", mebibytes(memory.total()), " (weights ",
              mebibytes(memory.weights), ", gradients ", mebibytes(memory.gradients), ", moments ",
              mebibytes(memory.moments), "), activations not counted\n");
  text += str("run folder        ", config.run_dir(), "\n");
  return text;
}

}  // namespace triphase::trainer
