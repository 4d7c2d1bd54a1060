// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/logging.hpp"
#include "base/progress.hpp"
#include "trainer/checkpoint.hpp"
#include "trainer/loop/federation.hpp"
#include "trainer/loop/metrics_log.hpp"
#include "trainer/loop/run_folder.hpp"
#include "trainer/loop/stop_request.hpp"
#include "trainer/loop/train_data.hpp"
#include "trainer/loop/train_step.hpp"
#include "trainer/loop/trainable_model.hpp"
#include "trainer/loop/validation.hpp"
#include "trainer/train.hpp"

namespace triphase::trainer {

/// Skips in a row after which a run counts as diverged. A lone overflow passes; ten in a row do not
/// pass by themselves.
inline constexpr std::int64_t kConsecutiveSkipsMax = 10;

/// What a loop is told beside its configuration.
struct TrainLoopOptions {
  std::string resume = "never";
  bool show_progress = false;
  int threads = 1;
  at::Device device = at::kCPU;  ///< that the model is trained on; the rank's own
  std::string mpi = {};                       ///< the library's version, for environment.json
  std::function<bool()> stop_requested = {};  ///< asked once a step; empty: never
  std::function<double()> seconds_since_start =
      seconds_since_program_start;  ///< for run.max_seconds
  /// Called after each step with its report, for tests. Changes nothing.
  std::function<void(std::int64_t step, const StepReport&)> on_step = {};
};

/// One run over any group of ranks: builds everything in the constructor, trains in run(). The
/// group and the logger must outlive it. Construction and run() are collective over group.
class TrainLoop {
 public:
  /// @throws every Error kind, agreed over the ranks
  TrainLoop(RunConfig config, TrainLoopOptions options, dist::ProcessGroup& group, Logger& log);
  ~TrainLoop();
  TrainLoop(const TrainLoop&) = delete;
  TrainLoop& operator=(const TrainLoop&) = delete;

  /// To the last step, an early stop, or a request to stop.
  [[nodiscard]] TrainResult run();

  [[nodiscard]] models::TwoTower& model() { return model_.model; }
  [[nodiscard]] const TrainState& state() const { return state_; }

 private:
  void agree_on_start();
  void start_or_resume(dist::ProcessGroup& node);
  void write_run_facts();
  [[nodiscard]] bool is_finished() const;
  /// Steps until the epoch's end, the last step, or a request to stop, for which it answers false.
  [[nodiscard]] bool run_epoch();
  [[nodiscard]] bool agreed_stop();
  [[nodiscard]] std::unique_ptr<data::BatchLoader> open_rest_of_epoch() const;
  [[nodiscard]] StepReport run_step(data::BatchLoader& loader);
  [[nodiscard]] StepReport run_pooled_step(data::BatchLoader& loader, double lr_factor);
  void count_skips(const StepReport& report);
  [[nodiscard]] std::int64_t pairs_per_step() const;
  void after_step(const StepReport& report);
  void log_step(const StepReport& report);
  [[nodiscard]] bool is_validation_due(bool is_epoch_end) const;
  void validate_and_compare();
  void save();

  RunConfig config_;
  TrainLoopOptions options_;
  dist::ProcessGroup& group_;
  Logger& log_;
  RunFolder folder_;
  TrainData data_;
  std::unique_ptr<Federation> federation_;  ///< null: all sites' pairs are one pool
  TrainableModel model_;
  std::vector<FindingPrompts> prompts_;
  std::unique_ptr<dist::GradientReducer> reducer_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainStep> train_step_;
  std::unique_ptr<MetricsLog> metrics_;  ///< rank 0's
  std::unique_ptr<Progress> progress_;
  TrainState state_;
  std::int64_t steps_per_epoch_ = 0;
  std::int64_t total_steps_ = 0;
  std::int64_t saved_step_ = -1;  ///< of the newest checkpoint in the run folder
  std::int64_t best_saved_ = -1;  ///< best_step of the last `best` mark written
  struct Interval {               ///< since the last logged step
    StepSeconds seconds;
    OwnSeconds own_seconds;
    std::int64_t steps = 0;
    double wall = 0;
  } interval_;
};

}  // namespace triphase::trainer
