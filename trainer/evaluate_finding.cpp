// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_finding.hpp"

#include "base/error.hpp"
#include "trainer/metrics.hpp"
#include "trainer/metrics_curves.hpp"
#include "trainer/metrics_delong.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

namespace triphase::trainer {
namespace {

std::int64_t num_positive(const ScoredSplit& split) {
  return std::count(split.labels.begin(), split.labels.end(), std::int8_t{1});
}

/// Null for NaN, which JSON has not.
Json number(double value) { return std::isnan(value) ? Json() : Json(value); }
Json pair(const std::array<double, 2>& interval) {
  return std::isnan(interval[0]) ? Json() : Json{interval[0], interval[1]};
}

/// The keys in the order of design §6, null until something is known.
Json empty_scores(const ScoredSplit& scored, const ScoringOptions& options) {
  Json json;
  for (const char* key :
       {"auc", "auc_ci95", "auc_delong_ci95", "average_precision", "average_precision_ci95", "f1",
        "f1_ci95", "sensitivity", "sensitivity_ci95", "specificity", "specificity_ci95", "ppv",
        "ppv_ci95", "npv", "npv_ci95", "balanced_accuracy", "balanced_accuracy_ci95", "threshold"})
    json[key] = nullptr;
  json["threshold_rule"] = options.threshold_rule;
  json["threshold_from"] = nullptr;
  const std::int64_t positive = num_positive(scored);
  json["n_positive"] = positive;
  json["n_negative"] = static_cast<std::int64_t>(scored.labels.size()) - positive;
  json["scoring"] = options.scoring;
  json["calibration"] = nullptr;
  json["roc"] = nullptr;
  json["precision_recall"] = nullptr;
  return json;
}

Json curve(const char* x, const char* y, const std::vector<double>& values, const CurveBand& band) {
  const std::string name(y);
  Json json{{x, curve_grid()}, {name, values}, {name + "_low", nullptr}, {name + "_high", nullptr}};
  if (band.low.empty()) return json;
  json[name + "_low"] = band.low;
  json[name + "_high"] = band.high;
  return json;
}

void add_curves(Json& json, const ScoredSplit& scored, const BootstrapIntervals& intervals) {
  const Staircase stairs = climb(rank_samples(scored.scores), scored.labels);
  json["roc"] = curve("fpr", "tpr", roc_curve_of(stairs), intervals.roc);
  json["precision_recall"] =
      curve("recall", "precision", precision_recall_curve_of(stairs), intervals.precision_recall);
}

Json calibration_of(const ScoredSplit& scored, const ScoringOptions& options) {
  const Calibration found = calibration(scored.probabilities, scored.labels);
  Json bins = Json::array();
  for (const CalibrationBin& bin : found.bins)
    bins.push_back({{"from", bin.from},
                    {"to", bin.to},
                    {"n", bin.n},
                    {"mean_predicted", bin.mean_predicted},
                    {"fraction_positive", bin.fraction_positive}});
  return {{"of", options.probabilities}, {"brier", found.brier}, {"ece", found.ece}, {"bins", bins}};
}

}  // namespace

bool has_both_classes(const ScoredSplit& split) {
  const std::int64_t positive = num_positive(split);
  return positive > 0 && positive < static_cast<std::int64_t>(split.labels.size());
}

std::string why_not(const ScoredSplit& split) {
  const std::int64_t positive = num_positive(split);
  return str("split '", split.split, "' has ", positive, " positive and ",
             static_cast<std::int64_t>(split.labels.size()) - positive,
             " negative samples; both are needed");
}

Json no_scores(const ScoredSplit& scored, const ScoringOptions& options, const std::string& reason) {
  Json json = empty_scores(scored, options);
  json["reason"] = reason;
  return json;
}

Json score_finding(const ScoredSplit& scored, const ScoredSplit& validation,
                   const ScoringOptions& options) {
  for (const double score : scored.scores)
    TRIPHASE_CHECK(NumericsError, std::isfinite(score), "a score of split '", scored.split, "' is ", score,
                   ". Look at the run's metrics.jsonl for one that diverged.");
  if (!has_both_classes(scored)) return no_scores(scored, options, why_not(scored));
  Json json = empty_scores(scored, options);
  json["auc"] = roc_auc(scored.scores, scored.labels);
  json["auc_delong_ci95"] = pair(delong_interval(scored.scores, scored.labels).ci95);
  json["average_precision"] = average_precision(scored.scores, scored.labels);
  if (!scored.probabilities.empty()) json["calibration"] = calibration_of(scored, options);
  std::optional<double> threshold;
  if (has_both_classes(validation)) {
    threshold = choose_threshold(options.threshold_rule, validation.scores, validation.labels);
    const ThresholdMetrics metrics = metrics_at(*threshold, scored.scores, scored.labels);
    json["f1"] = metrics.f1;
    json["sensitivity"] = metrics.sensitivity;
    json["specificity"] = metrics.specificity;
    json["ppv"] = number(metrics.ppv);
    json["npv"] = number(metrics.npv);
    json["balanced_accuracy"] = metrics.balanced_accuracy;
    json["threshold"] = *threshold;
    json["threshold_from"] = validation.split;
    if (validation.split == scored.split)
      json["note"] = "the threshold was chosen on the split it is scored on; F1 flatters";
  } else {
    json["reason"] = validation.split.empty() ? "no validation split to choose a threshold on"
                                              : "no threshold: " + why_not(validation);
  }
  if (options.bootstrap_samples == 0) {
    add_curves(json, scored, {});
    return json;
  }
  const BootstrapIntervals intervals =
      bootstrap_by_patient(scored.scores, scored.labels, scored.patient_ids, threshold.value_or(0),
                           options.bootstrap_samples, options.seed);
  add_curves(json, scored, intervals);
  json["auc_ci95"] = pair(intervals.auc);
  json["average_precision_ci95"] = pair(intervals.average_precision);
  if (!threshold) return json;
  json["f1_ci95"] = pair(intervals.f1);
  json["sensitivity_ci95"] = pair(intervals.sensitivity);
  json["specificity_ci95"] = pair(intervals.specificity);
  json["ppv_ci95"] = pair(intervals.ppv);
  json["npv_ci95"] = pair(intervals.npv);
  json["balanced_accuracy_ci95"] = pair(intervals.balanced_accuracy);
  return json;
}

}  // namespace triphase::trainer
