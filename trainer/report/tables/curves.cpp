// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/fields.hpp"
#include "trainer/report/tables.hpp"

namespace triphase::trainer {
namespace {

/// Points of one curve of every main evaluation, with their band.
DataTable band_table(const Json& figures, const char* name, const char* caption, const char* x,
                     const char* x_name, const char* y, const char* y_name) {
  using enum Shown;
  std::vector<DataColumn> columns{
      {"run", "run"}, {"scored_by", "scored by"}, {x, x_name, kScore}};
  add_score_columns(columns, y, y_name);
  DataTable table(name, caption, columns);
  const std::string key(y);
  for (const Scored& scored : all_scored(figures)) {
    const Json curve = member(*scored.scores, name);
    if (!scored.is_main || !curve.is_object()) continue;
    const Json values = member(curve, y);
    const Json low = member(curve, (key + "_low").c_str());
    const Json high = member(curve, (key + "_high").c_str());
    for (std::size_t i = 0; i < member(curve, x).size(); ++i)
      table.add({scored.name(), scored.scored_by, curve.at(x)[i], element(values, i),
                 element(low, i), element(high, i)});
  }
  return table;
}

DataTable calibration(const Json& figures) {
  using enum Shown;
  DataTable table("calibration", "Calibration: mean squared error and expected error of probabilities",
                  {{"run", "run"},
                   {"scored_by", "scored by"},
                   {"of", "probability", kWrapped},
                   {"brier", "Brier score", kScore},
                   {"ece", "ECE", kScore}});
  for (const Scored& scored : all_scored(figures)) {
    const Json found = member(*scored.scores, "calibration");
    if (scored.is_main && found.is_object())
      table.add({scored.name(), scored.scored_by, member(found, "of"), member(found, "brier"),
                 member(found, "ece")});
  }
  return table;
}

DataTable reliability(const Json& figures) {
  using enum Shown;
  DataTable table("reliability", "Reliability: how often the finding is there where it is predicted",
                  {{"run", "run"},
                   {"scored_by", "scored by"},
                   {"from", "from", kNumber},
                   {"to", "to", kNumber},
                   {"n", "studies", kCount},
                   {"mean_predicted", "mean predicted", kScore},
                   {"fraction_positive", "fraction positive", kScore}});
  for (const Scored& scored : all_scored(figures)) {
    if (!scored.is_main) continue;
    for (const Json& bin : member(member(*scored.scores, "calibration"), "bins"))
      table.add({scored.name(), scored.scored_by, member(bin, "from"), member(bin, "to"),
                 member(bin, "n"), member(bin, "mean_predicted"), member(bin, "fraction_positive")});
  }
  return table;
}

DataTable k_shot(const Json& figures) {
  using enum Shown;
  DataTable table("k_shot", "Linear probe fitted on k studies of each class",
                  {{"run", "run"},
                   {"k", "k", kCount},
                   {"repeats", "repeats", kCount},
                   {"auc_mean", "AUC, mean", kScore},
                   {"auc_sd", "AUC, standard deviation", kScore}});
  for (const Scored& scored : main_scored(figures, "linear probe"))
    for (const Json& point : member(*scored.scores, "k_shot"))
      table.add({scored.name(), member(point, "k"), member(point, "repeats"),
                 member(point, "auc_mean"), member(point, "auc_sd")});
  return table;
}

}  // namespace

std::vector<DataTable> curve_tables(const Json& figures) {
  return {band_table(figures, "roc", "ROC curves with pointwise 95 % bands", "fpr",
                     "false positive rate", "tpr", "true positive rate"),
          band_table(figures, "precision_recall",
                     "Precision-recall curves with pointwise 95 % bands", "recall", "recall",
                     "precision", "precision"),
          calibration(figures), reliability(figures), k_shot(figures)};
}

}  // namespace triphase::trainer
