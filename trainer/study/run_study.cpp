// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/run_study.hpp"

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/file.hpp"
#include "base/json.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/loop/stop_request.hpp"
#include "trainer/report.hpp"
#include "trainer/study/cell_estimate.hpp"
#include "trainer/study/study_results.hpp"
#include "trainer/torch_setup.hpp"
#include "trainer/train.hpp"

namespace triphase::trainer {
namespace {

using Clock = std::chrono::steady_clock;
using Status = CellOutcome::Status;

/// Groups end hours apart; a rank that dies or hangs ends the job by its own group's timeout.
constexpr double kWaitForGroupsSeconds = 30.0 * 24 * 3600;

bool ends_study(const Error& error) {
  return error.exit_code() == ExitCode::kCommunication || error.exit_code() == ExitCode::kTimeout;
}

/// What every group knows of the cells before it starts: rank 0 has looked, so that a shared file
/// system's delay cannot part them.
struct Plan {
  std::vector<double> costs;  ///< 0: done
  std::vector<int> groups;    ///< -1: done
};

Plan agree_on_plan(const std::vector<StudyCell>& cells, int num_groups, dist::Runtime& runtime) {
  std::string text;
  dist::agree_on(runtime.world(), [&] {
    if (runtime.rank() == 0)
      text = Json(costs_of(estimate_cells(cells, /*count_parameters=*/false))).dump();
  });
  Plan plan;
  plan.costs = Json::parse(dist::broadcast_text(runtime.world(), text)).get<std::vector<double>>();
  plan.groups = assign_cells(plan.costs, num_groups);
  return plan;
}

/// One group's work.
class GroupWork {
 public:
  GroupWork(const std::vector<StudyCell>& cells, const Plan& plan, dist::Runtime& part, int group,
            bool show_progress)
      : cells_(cells),
        part_(part),
        shows_bars_(show_progress && group == 0),
        log_({.rank = part.rank(), .num_ranks = part.num_ranks(), .quiet = !show_progress, .file = {}}),
        run_log_({.rank = part.rank(), .num_ranks = part.num_ranks(), .quiet = !shows_bars_, .file = {}}) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (plan.groups[i] != group) continue;
      mine_.push_back(i);
      costs_.push_back(plan.costs[i]);
    }
  }

  /// Collective over the group. @return whether a stop was asked for
  [[nodiscard]] bool run(std::vector<CellOutcome>& outcomes) {
    const auto start = Clock::now();
    double done = 0;
    for (std::size_t i = 0; i < mine_.size(); ++i) {
      if (dist::any_rank(part_.world(), stop_requested())) return true;
      const StudyCell& cell = cells_[mine_[i]];
      log_.info("study cell=", mine_[i] + 1, "/", cells_.size(), " name=", cell.name, left_text(i, start, done));
      CellOutcome& outcome = outcomes[mine_[i]];
      if (!run_and_catch(cell, outcome)) return true;
      done += costs_[i];
      if (outcome.status == Status::kFailed && part_.rank() == 0)
        log_.warning("study cell=", mine_[i] + 1, "/", cells_.size(), " name=", cell.name,
                     " failed exit_code=", static_cast<int>(outcome.exit_code), ": ", outcome.message);
    }
    return false;
  }

 private:
  /// By the pace of the cells that this group has done.
  [[nodiscard]] std::string left_text(std::size_t next, Clock::time_point start, double done) const {
    if (done <= 0) return {};
    double left = 0;
    for (std::size_t i = next; i < costs_.size(); ++i) left += costs_[i];
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return " left=\"about " + duration_text(seconds / done * left) + "\"";
  }

  /// @return false when it stopped on request
  [[nodiscard]] bool train_and_evaluate(const RunConfig& config) {
    part_.set_timeout(config.distributed.timeout_seconds);
    const TrainResult trained =
        train(config, {.resume = "auto", .show_progress = shows_bars_}, part_, run_log_);
    if (trained.stopped_on_request) return false;
    evaluate_run(config, trained.best_checkpoint, config.data.test_split, "", part_, run_log_, shows_bars_);
    return true;
  }

  // An error that all ranks have is the cell's. One that a rank of several has alone leaves them in
  // different places, and ends the job, as does one of the communication.
  [[nodiscard]] bool run_and_catch(const StudyCell& cell, CellOutcome& outcome) {
    try {
      if (!train_and_evaluate(cell.config)) return false;
      outcome.status = Status::kDone;
    } catch (const dist::AgreedError& error) {
      if (ends_study(error)) throw Error(error.kind(), error.what(), error.exit_code());
      outcome = {Status::kFailed, error.exit_code(), error.what()};
    } catch (const std::exception& caught) {
      const Error error = dist::error_of(caught);
      if (part_.num_ranks() > 1 || ends_study(error)) throw;
      outcome = {Status::kFailed, error.exit_code(), error.what()};
    }
    return true;
  }

  const std::vector<StudyCell>& cells_;
  dist::Runtime& part_;
  bool shows_bars_;
  Logger log_;
  Logger run_log_;
  std::vector<std::size_t> mine_;
  std::vector<double> costs_;
};

std::string to_text(std::size_t cell, const CellOutcome& outcome) {
  return Json{{"cell", cell},
              {"status", static_cast<int>(outcome.status)},
              {"exit_code", static_cast<int>(outcome.exit_code)},
              {"message", outcome.message}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Every group's outcomes on every rank. Collective over the world.
void gather_outcomes(std::vector<CellOutcome>& outcomes, const Plan& plan, int group, bool is_leader,
                     dist::ProcessGroup& world) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < outcomes.size() && is_leader; ++i)
    if (plan.groups[i] == group) texts.push_back(to_text(i, outcomes[i]));
  for (const std::string& text : dist::gather_texts(world, texts)) {
    const Json json = Json::parse(text);
    outcomes[json.at("cell").get<std::size_t>()] = {
        static_cast<Status>(json.at("status").get<int>()),
        static_cast<ExitCode>(json.at("exit_code").get<int>()), json.at("message").get<std::string>()};
  }
}

/// Works on the cells in groups. Collective. @return whether a stop was asked for in any
bool run_in_groups(const std::vector<StudyCell>& cells, const Plan& plan, int num_groups,
                   dist::Runtime& runtime, bool show_progress, std::vector<CellOutcome>& outcomes) {
  if (num_groups == 1)
    return GroupWork(cells, plan, runtime, 0, show_progress).run(outcomes);
  // GPUs are given out over all ranks, once.
  static_cast<void>(set_up_torch(cells.front().config.precision, runtime,
                                 cells.front().config.distributed.backend));
  const int per_group = runtime.num_ranks() / num_groups;
  const int group = runtime.rank() / per_group;
  bool is_stopped = false;
  bool is_leader = false;
  {
    dist::Runtime part(runtime, group);
    is_leader = part.rank() == 0;
    is_stopped = GroupWork(cells, plan, part, group, show_progress).run(outcomes);
  }
  runtime.set_timeout(kWaitForGroupsSeconds);
  is_stopped = dist::any_rank(runtime.world(), is_stopped);
  gather_outcomes(outcomes, plan, group, is_leader, runtime.world());
  return is_stopped;
}

ExitCode exit_code_of(const std::vector<CellOutcome>& outcomes) {
  for (const CellOutcome& outcome : outcomes)
    if (outcome.status == Status::kFailed) return outcome.exit_code;
  return ExitCode::kDone;
}

/// Rank 0's.
void write_results(const StudyConfig& study, const std::vector<StudyCell>& cells,
                   const std::vector<CellOutcome>& outcomes, StudyOutcome& result) {
  const Json json = study_json(study, cells, outcomes);
  write_json(study.folder() + "/study.json", json);
  result.table = study_table(json);
  std::vector<std::string> done;
  for (std::size_t i = 0; i < cells.size(); ++i)
    if (outcomes[i].status == Status::kDone) done.push_back(cells[i].config.run_dir());
  if (result.stopped_on_request || done.empty()) return;
  result.report = study.folder() + "/report.html";
  write_report(done, result.report);
}

}  // namespace

int ranks_per_group(const StudyConfig& study, int num_ranks) {
  const std::int64_t groups = std::max<std::int64_t>(1, study.groups);
  TRIPHASE_CHECK(ConfigError, num_ranks % groups == 0, "study.groups is ", groups, ", and ", num_ranks,
                 num_ranks == 1 ? " rank" : " ranks", " cannot be divided into that many groups of equal size. Start a "
                 "multiple of ", groups, ", or set study.groups to a divisor of ", num_ranks, ".");
  return static_cast<int>(num_ranks / groups);
}

void check_cells_fit(const std::vector<StudyCell>& cells, int num_ranks) {
  for (const StudyCell& cell : cells) {
    try {
      check_backend(cell.config, num_ranks);
      static_cast<void>(pairs_per_rank(cell.config, num_ranks));
    } catch (Error& error) {
      error.add_context(str("in cell '", cell.name, "' of the study"));
      throw;
    }
  }
}

StudyOutcome run_study(const StudyConfig& study, dist::Runtime& runtime, bool show_progress) {
  std::vector<StudyCell> cells;
  dist::agree_on(runtime.world(), [&] {
    cells = study_cells(study);
    check_cells_fit(cells, ranks_per_group(study, runtime.num_ranks()));
    if (runtime.rank() == 0) check_results_are_of(cells);
    make_output_directory(study.folder());
    const bool uses_nccl = std::any_of(cells.begin(), cells.end(), [](const StudyCell& cell) {
      return cell.config.distributed.backend == "nccl";
    });
    if (uses_nccl) runtime.use_nccl();
  });
  const int num_groups = static_cast<int>(std::max<std::int64_t>(1, study.groups));
  const Plan plan = agree_on_plan(cells, num_groups, runtime);
  std::vector<CellOutcome> outcomes(cells.size());
  for (std::size_t i = 0; i < cells.size(); ++i)
    if (plan.groups[i] < 0) outcomes[i].status = Status::kDone;
  StudyOutcome result;
  result.stopped_on_request =
      run_in_groups(cells, plan, num_groups, runtime, show_progress, outcomes);
  result.exit_code = exit_code_of(outcomes);
  dist::agree_on(runtime.world(), [&] {
    if (runtime.rank() == 0) write_results(study, cells, outcomes, result);
  });
  return result;
}

}  // namespace triphase::trainer
