// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/tables.hpp"

#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"

#include <array>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 2> kProbes{
    {{"linear_probe", "linear probe"}, {"report_probe", "report probe"}}};

}  // namespace

std::vector<Scored> all_scored(const Json& figures) {
  std::vector<Scored> result;
  for (const Json& run : figures.at("runs")) {
    for (const Json& evaluation : run.at("evaluations")) {
      for (const auto& [finding, scores] : evaluation.at("findings").items()) {
        const bool is_main =
            &evaluation == main_evaluation(run) && figures.at("finding") == finding;
        result.push_back({&run, &evaluation, &scores, finding, "prompts", is_main});
        for (const auto& [key, name] : kProbes)
          if (scores.contains(key) && scores.at(key).is_object())
            result.push_back({&run, &evaluation, &scores.at(key), finding, name, is_main});
      }
    }
  }
  return result;
}

std::vector<Scored> main_scored(const Json& figures, const std::string& scored_by) {
  std::vector<Scored> result;
  for (const Scored& scored : all_scored(figures))
    if (scored.is_main && scored.scored_by == scored_by) result.push_back(scored);
  return result;
}

std::vector<std::string> table_names() {
  return {"headline",  "scores",      "baselines",   "differences", "roc",       "precision_recall",
          "calibration", "reliability", "k_shot",    "training",    "temperature", "cost",
          "step_time", "trainable",   "sites",       "subgroups",   "retrieval", "cohort",
          "settings",  "origins",     "missing"};
}

Json report_tables(const Json& figures) {
  Json tables = Json::array();
  for (const auto part :
       {result_tables, curve_tables, training_tables, place_tables, origin_tables})
    for (const DataTable& table : part(figures))
      if (!table.empty()) tables.push_back(table.json());
  return tables;
}

}  // namespace triphase::trainer
