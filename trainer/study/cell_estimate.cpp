// SPDX-License-Identifier: Apache-2.0
#include "trainer/study/cell_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "models/adapter_plan.hpp"
#include "trainer/checkpoint_files.hpp"
#include "trainer/loop/train_data.hpp"
#include "trainer/optim/schedule.hpp"
#include "trainer/study/cell_record.hpp"

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

/// Steps of an epoch, looked up once for cells that read the same samples in the same batches.
class EpochLengths {
 public:
  [[nodiscard]] std::optional<std::int64_t> of(const RunConfig& config) {
    std::string sites;
    for (const std::string& site : config.data.sites) sites += site + "\n";
    const data::SamplerOptions& sampler = config.data.sampler;
    const std::string key = str(config.data.cache, "\n", config.data.train_split, "\n", config.model.preset,
                                "\n", config.batch.global_pairs, "\n", static_cast<int>(sampler.mode), "\n",
                                sampler.site_power, "\n", sites);
    const auto [at, is_new] = known_.try_emplace(key);
    if (is_new) at->second = find(config);
    return at->second;
  }

 private:
  static std::optional<std::int64_t> find(const RunConfig& config) {
    std::error_code ignored;
    if (config.data.cache.empty() || !fs::exists(fs::path(config.data.cache) / "cache.json", ignored))
      return std::nullopt;
    try {
      return steps_per_epoch(open_train_data(config, models::model_preset(config.model.preset)), config);
    } catch (const Error&) {  // the run will say what is wrong
      return std::nullopt;
    }
  }
  std::map<std::string, std::optional<std::int64_t>> known_;
};

std::optional<std::int64_t> steps_of(const RunConfig& config, EpochLengths& lengths) {
  if (config.schedule.max_steps > 0) return config.schedule.max_steps;
  const auto per_epoch = lengths.of(config);
  if (!per_epoch || config.schedule.max_epochs == 0) return std::nullopt;
  return total_steps(config.schedule, *per_epoch);
}

std::int64_t steps_done(const RunConfig& config) {
  const fs::path folder = fs::path(config.run_dir()) / "checkpoints";
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return 0;
  for (const std::string& name : checkpoint_names(folder))
    if (fs::exists(folder / name / "COMPLETE", ignored))
      return std::stoll(name.substr(name.rfind('_') + 1));
  return 0;
}

/// Trained parameters by preset and adapters; a model is built once for each preset.
class ParameterCounts {
 public:
  void fill(const RunConfig& config, CellEstimate& estimate) {
    auto model = models_.find(config.model.preset);
    if (model == models_.end()) {
      model = models_.emplace(config.model.preset, models::TwoTower(models::model_preset(config.model.preset))).first;
    }
    try {
      model->second->set_logit_bias(has_logit_bias(config.loss));
      const models::AdapterPlan plan = models::plan_adapters(model->second, config.adapt);
      estimate.num_trainable = plan.num_trainable;
      estimate.trainable_percent = plan.trainable_percent();
    } catch (const Error& error) {  // a target that fits no module: every start of the cell would fail
      throw ConfigError(str("cell '", config.run.name, "': ", error.message()));
    }
  }

 private:
  std::map<std::string, models::TwoTower> models_;
};

/// Seconds of a pair, by method and preset, and over all.
std::map<std::string, double> measured_rates(const std::vector<StudyCell>& cells,
                                             const std::vector<CellEstimate>& estimates) {
  std::map<std::string, std::pair<double, std::int64_t>> sums;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (estimates[i].state != CellEstimate::State::kDone) continue;
    const auto seconds = read_cell_record(cells[i].config).seconds_per_pair;
    if (!seconds) continue;
    const RunConfig& config = cells[i].config;
    for (const std::string& key : {std::string("all"), config.adapt.method + config.model.preset}) {
      sums[key].first += *seconds;
      ++sums[key].second;
    }
  }
  std::map<std::string, double> rates;
  for (const auto& [key, sum] : sums) rates[key] = sum.first / static_cast<double>(sum.second);
  return rates;
}

std::optional<double> seconds_left(const RunConfig& config, const CellEstimate& estimate,
                                   const std::map<std::string, double>& rates) {
  if (estimate.state == CellEstimate::State::kDone) return 0.0;
  const auto same = rates.find(config.adapt.method + config.model.preset);
  const auto rate = same != rates.end() ? same : rates.find("all");
  if (!estimate.steps || rate == rates.end()) return std::nullopt;
  const std::int64_t left = std::max<std::int64_t>(0, *estimate.steps - estimate.steps_done);
  return static_cast<double>(left * config.batch.global_pairs) * rate->second;
}

}  // namespace

std::vector<CellEstimate> estimate_cells(const std::vector<StudyCell>& cells, bool count_parameters) {
  std::vector<CellEstimate> estimates;
  EpochLengths lengths;
  ParameterCounts counts;
  for (const StudyCell& cell : cells) {
    CellEstimate& estimate = estimates.emplace_back();
    estimate.steps_done = steps_done(cell.config);
    if (cell.is_done())
      estimate.state = CellEstimate::State::kDone;
    else if (estimate.steps_done > 0)
      estimate.state = CellEstimate::State::kResumable;
    estimate.steps = steps_of(cell.config, lengths);
    if (estimate.steps) estimate.pairs = *estimate.steps * cell.config.batch.global_pairs;
    if (count_parameters) counts.fill(cell.config, estimate);
  }
  const auto rates = measured_rates(cells, estimates);
  for (std::size_t i = 0; i < cells.size(); ++i)
    estimates[i].seconds = seconds_left(cells[i].config, estimates[i], rates);
  return estimates;
}

std::vector<double> costs_of(const std::vector<CellEstimate>& estimates) {
  const auto all = [&](const auto& is_known) {
    return std::all_of(estimates.begin(), estimates.end(), is_known);
  };
  const bool by_seconds = all([](const CellEstimate& e) { return e.seconds.has_value(); });
  const bool by_pairs = all([](const CellEstimate& e) { return e.pairs && *e.steps > 0; });
  std::vector<double> costs;
  for (const CellEstimate& each : estimates) {
    double cost = 1;
    if (by_pairs)
      cost = static_cast<double>(*each.pairs) *
             std::max(0.0, 1 - static_cast<double>(each.steps_done) / static_cast<double>(*each.steps));
    if (by_seconds) cost = *each.seconds;
    const bool is_done = each.state == CellEstimate::State::kDone;
    costs.push_back(is_done ? 0 : std::max(cost, 1e-3));  // its evaluation is left in any case
  }
  return costs;
}

std::vector<int> assign_cells(const std::vector<double>& costs, int num_groups) {
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return costs[a] > costs[b]; });
  std::vector<double> load(static_cast<std::size_t>(num_groups), 0);
  std::vector<int> groups(costs.size(), -1);
  for (const std::size_t cell : order) {
    if (costs[cell] <= 0) continue;
    const auto least = std::min_element(load.begin(), load.end());
    *least += costs[cell];
    groups[cell] = static_cast<int>(least - load.begin());
  }
  return groups;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 120) return str(whole, " s");
  const std::int64_t minutes = (whole + 30) / 60;
  if (minutes < 120) return str(minutes, " min");
  return str(minutes / 60, " h ", minutes % 60 < 10 ? "0" : "", minutes % 60, " min");
}

}  // namespace triphase::trainer
