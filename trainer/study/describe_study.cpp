// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <map>

#include "trainer/report/format.hpp"
#include "trainer/study/cell_estimate.hpp"
#include "trainer/study/text_table.hpp"

namespace triphase::trainer {
namespace {

std::string state_text(const CellEstimate& estimate) {
  if (estimate.state == CellEstimate::State::kDone) return "done";
  if (estimate.state == CellEstimate::State::kMissing) return "missing";
  return str("resumable at step ", estimate.steps_done);
}

std::string count_or_unknown(const std::optional<std::int64_t>& count) {
  return count ? count_text(*count) : "unknown";
}

std::string time_text(const CellEstimate& estimate) {
  if (estimate.state == CellEstimate::State::kDone) return "-";
  return estimate.seconds ? duration_text(*estimate.seconds) : "unknown";
}

/// The groups' longest, where every cell's is known.
std::string time_left_text(const std::vector<CellEstimate>& estimates, int num_groups) {
  const bool is_known = std::all_of(estimates.begin(), estimates.end(),
                                    [](const CellEstimate& e) { return e.seconds.has_value(); });
  if (!is_known)
    return "unknown: steps are counted where schedule.max_steps or the cache gives them, and timed once a cell is done";
  const std::vector<double> costs = costs_of(estimates);
  const std::vector<int> groups = assign_cells(costs, num_groups);
  std::map<int, double> load;
  for (std::size_t i = 0; i < costs.size(); ++i)
    if (groups[i] >= 0) load[groups[i]] += costs[i];
  double longest = 0;
  for (const auto& [group, seconds] : load) longest = std::max(longest, seconds);
  return "about " + duration_text(longest) + " of training, at the rate of the cells that are done";
}

std::string idle_rules(const StudyConfig& study, const std::vector<StudyCell>& cells) {
  std::string text;
  for (const StudyRule& rule : study.rules) {
    const bool is_used = std::any_of(cells.begin(), cells.end(), [&](const StudyCell& cell) {
      return is_matched(rule, cell.values);
    });
    if (!is_used) text += str("note: the rule at ", rule.origin, " applies to no cell\n");
  }
  return text;
}

}  // namespace

std::string describe_study(const StudyConfig& study, const std::vector<StudyCell>& cells,
                           int num_ranks) {
  const std::vector<CellEstimate> estimates = estimate_cells(cells, /*count_parameters=*/true);
  TextTable table({"cell", "status", "steps", "pairs", "trainable", "percent", "time left"});
  std::array<std::int64_t, 3> counts{};
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const CellEstimate& estimate = estimates[i];
    ++counts.at(static_cast<std::size_t>(estimate.state));
    table.add({cells[i].name, state_text(estimate), count_or_unknown(estimate.steps),
               count_or_unknown(estimate.pairs), count_or_unknown(estimate.num_trainable),
               decimal(estimate.trainable_percent, 3), time_text(estimate)});
  }
  const int num_groups = static_cast<int>(std::max<std::int64_t>(1, study.groups));
  return str(table.text(), "\n", "cells        ", cells.size(), ": ", counts[2], " done, ", counts[1],
             " resumable, ", counts[0], " missing\n", "ranks        ", num_ranks, " in ", num_groups,
             num_groups == 1 ? " group\n" : " groups\n", "time left    ",
             time_left_text(estimates, num_groups), "\n", "folder       ", study.folder(), "\n",
             idle_rules(study, cells));
}

}  // namespace triphase::trainer
