// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/tables.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace triphase::trainer {
namespace {

struct Spread {
  Json mean;
  Json low;
  Json high;
};

/// Mean, lowest and highest of what is there.
Spread spread(const std::vector<std::optional<double>>& values) {
  std::vector<double> known;
  for (const auto& value : values)
    if (value) known.push_back(*value);
  if (known.empty()) return {};
  double sum = 0;
  for (const double value : known) sum += value;
  const auto [low, high] = std::minmax_element(known.begin(), known.end());
  return {sum / static_cast<double>(known.size()), *low, *high};
}

/// The main finding's scores of one run by its prompts and probe; null where there are none.
Json main_scores(const Json& figures, const Json& run, const char* probe = nullptr) {
  const Json* evaluation = main_evaluation(run);
  if (evaluation == nullptr || !figures.at("finding").is_string()) return nullptr;
  const Json scores =
      member(evaluation->at("findings"), figures.at("finding").get<std::string>().c_str());
  return probe == nullptr ? scores : member(scores, probe);
}

/// One row a group. Of several seeds the mean, with the lowest and highest in place of the interval.
DataTable headline(const Json& figures) {
  using enum Shown;
  std::vector<DataColumn> columns{
      {"run", "run"}, {"method", "method"}, {"sites", "evaluated on"}, {"seeds", "seeds", kCount}};
  columns.push_back({"auc", "AUC [95 % or seeds' range]", kScore});
  columns.push_back({"auc_low", "", kLow});
  columns.push_back({"auc_high", "", kHigh});
  columns.push_back({"f1", "F1 [95 % or seeds' range]", kScore});
  columns.push_back({"f1_low", "", kLow});
  columns.push_back({"f1_high", "", kHigh});
  columns.push_back({"average_precision", "AP", kScore});
  columns.push_back({"probe_auc", "probe AUC", kScore});
  columns.push_back({"best_step", "best step", kCount});
  columns.push_back({"trainable_percent", "trainable", kPercent});
  DataTable table("headline", "Main results, one row for each group of seeds", columns);
  for (const Json& group : figures.at("groups")) {
    std::vector<std::optional<double>> auc, f1, precision, probe, steps;
    Json of_one;
    const Json* first = nullptr;
    for (const Json& place : group.at("runs")) {
      const Json& run = figures.at("runs")[place.get<std::size_t>()];
      if (first == nullptr) first = &run;
      of_one = main_scores(figures, run);
      auc.push_back(number(of_one, "auc"));
      f1.push_back(number(of_one, "f1"));
      precision.push_back(number(of_one, "average_precision"));
      probe.push_back(number(main_scores(figures, run, "linear_probe"), "auc"));
      steps.push_back(number(member(run.at("training"), "best"), "step"));
    }
    const bool is_one = group.at("runs").size() == 1;
    const auto with_range = [&](const auto& values, const char* key) {
      Spread found = spread(values);
      if (!is_one) return found;
      const Json interval = member(of_one, (std::string(key) + "_ci95").c_str());
      return Spread{found.mean, low_end(interval), high_end(interval)};
    };
    const Spread aucs = with_range(auc, "auc");
    const Spread f1s = with_range(f1, "f1");
    const Json* evaluation = main_evaluation(*first);
    table.add({group.at("name"), method_text(*first),
               evaluation == nullptr ? Json() : Json(sites_text(*evaluation)),
               group.at("runs").size(), aucs.mean, aucs.low, aucs.high, f1s.mean, f1s.low, f1s.high,
               spread(precision).mean, spread(probe).mean, spread(steps).mean,
               member(first->at("trainable"), "percent")});
  }
  return table;
}

constexpr std::array<std::pair<const char*, const char*>, 8> kScores{
    {{"auc", "AUC"},
     {"average_precision", "AP"},
     {"f1", "F1"},
     {"sensitivity", "sensitivity"},
     {"specificity", "specificity"},
     {"ppv", "PPV"},
     {"npv", "NPV"},
     {"balanced_accuracy", "balanced accuracy"}}};

DataTable scores(const Json& figures) {
  using enum Shown;
  std::vector<DataColumn> columns{{"run", "run"},
                                  {"method", "method"},
                                  {"finding", "finding"},
                                  {"scored_by", "scored by"},
                                  {"sites", "sites"},
                                  {"split", "split"},
                                  {"n_positive", "positive", kCount},
                                  {"n_negative", "negative", kCount}};
  for (const auto& [key, name] : kScores) {
    add_score_columns(columns, key, name);
    if (std::string(key) != "auc") continue;
    columns.push_back({"auc_delong_low", "AUC, DeLong low", kScore});
    columns.push_back({"auc_delong_high", "AUC, DeLong high", kScore});
  }
  columns.push_back({"threshold", "threshold", kNumber});
  columns.push_back({"threshold_from", "threshold from"});
  DataTable table("scores", "Every finding of every evaluation, with 95 % intervals by patient",
                  columns);
  for (const Scored& scored : all_scored(figures)) {
    const Json& values = *scored.scores;
    std::vector<Json> row{scored.name(),
                          method_text(*scored.run),
                          scored.finding,
                          scored.scored_by,
                          sites_text(*scored.evaluation),
                          scored.evaluation->at("split"),
                          member(values, "n_positive"),
                          member(values, "n_negative")};
    for (const auto& [key, name] : kScores) {
      const Json interval = member(values, (std::string(key) + "_ci95").c_str());
      row.insert(row.end(), {member(values, key), low_end(interval), high_end(interval)});
      if (std::string(key) != "auc") continue;
      const Json delong = member(values, "auc_delong_ci95");
      row.insert(row.end(), {low_end(delong), high_end(delong)});
    }
    row.insert(row.end(), {member(values, "threshold"), member(values, "threshold_from")});
    table.add(std::move(row));
  }
  return table;
}

/// What one modality alone tells, beside the prompts. Only where a probe was fitted.
DataTable baselines(const Json& figures) {
  std::vector<DataColumn> columns{{"run", "run"}};
  add_score_columns(columns, "prompts", "prompts: image against text");
  add_score_columns(columns, "image_only", "image only: linear probe");
  add_score_columns(columns, "report_only", "report only: report probe");
  DataTable table("baselines", "AUC of one modality alone beside the prompts'", columns);
  for (const Json& run : figures.at("runs")) {
    std::vector<Json> row{run.at("name")};
    bool has_probe = false;
    for (const char* probe : {"", "linear_probe", "report_probe"}) {
      const Json values = main_scores(figures, run, *probe == '\0' ? nullptr : probe);
      const Json interval = member(values, "auc_ci95");
      row.insert(row.end(), {member(values, "auc"), low_end(interval), high_end(interval)});
      has_probe = has_probe || (*probe != '\0' && values.is_object());
    }
    if (has_probe) table.add(std::move(row));
  }
  return table;
}

DataTable differences(const Json& figures) {
  using enum Shown;
  DataTable table("differences", "Paired differences in AUC on the same studies (DeLong)",
                  {{"compared_with", "compared with"},
                   {"run", "run"},
                   {"split", "split"},
                   {"finding", "finding"},
                   {"scored_by", "scored by"},
                   {"n", "studies", kCount},
                   {"auc_compared_with", "AUC compared with", kScore},
                   {"auc", "AUC of the run", kScore},
                   {"difference", "difference [95 %]", kScore},
                   {"difference_low", "", kLow},
                   {"difference_high", "", kHigh},
                   {"p_value", "p", kNumber},
                   {"p_holm", "p, Holm", kNumber}});
  for (const Json& row : figures.at("differences"))
    table.add({row.at("run_a"), row.at("run_b"), row.at("split"), row.at("finding"),
               row.at("scored_by"), row.at("n"), row.at("auc_a"), row.at("auc_b"),
               row.at("difference"), low_end(row.at("difference_ci95")),
               high_end(row.at("difference_ci95")), row.at("p_value"), row.at("p_holm")});
  return table;
}

}  // namespace

std::vector<DataTable> result_tables(const Json& figures) {
  return {headline(figures), scores(figures), baselines(figures), differences(figures)};
}

}  // namespace triphase::trainer
