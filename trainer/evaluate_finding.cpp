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

/// Strong to weak: with a few hundred samples and as many features the strong end is the useful
/// one.
constexpr std::array<double, 6> kProbeC{1e-4, 1e-3, 1e-2, 1e-1, 1, 10};

std::int64_t num_positive(const ScoredSplit& split) {
  return std::count(split.labels.begin(), split.labels.end(), std::int8_t{1});
}

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

std::size_t best_probe(const std::vector<LinearProbe>& probes, const ProbeSplit& validation,
                       std::int64_t d) {
  std::size_t best = 0;
  double best_auc = -1;
  for (std::size_t i = 0; i < probes.size(); ++i) {
    const double auc =
        roc_auc(probe_scores(probes[i], validation.features, d), validation.samples.labels);
    if (!(auc > best_auc)) continue;  // ties: the stronger penalty
    best_auc = auc;
    best = i;
  }
  return best;
}

}  // namespace

Json score_finding(const ScoredSplit& scored, const ScoredSplit& validation,
                   const ScoringOptions& options) {
  Json json = empty_scores(scored, options);
  if (!has_both_classes(scored)) {
    json["reason"] = why_not(scored);
    return json;
  }
  json["auc"] = roc_auc(scored.scores, scored.labels);
  json["auc_delong_ci95"] = pair(delong_interval(scored.scores, scored.labels).ci95);
  json["average_precision"] = average_precision(scored.scores, scored.labels);
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

Json score_linear_probe(const ProbeSplit& train, const ProbeSplit& validation,
                        const ProbeSplit& scored, std::int64_t d, ScoringOptions options) {
  options.scoring =
      str("logistic regression on standardised pooled image features; labels of split '",
          train.samples.split, "' are used here and nowhere else");
  std::string reason;
  if (train.samples.split == scored.samples.split)
    reason = str("split '", scored.samples.split, "' is the one the probe would be fitted on");
  else if (!has_both_classes(train.samples))
    reason = why_not(train.samples);
  else if (!has_both_classes(validation.samples))
    reason = "C is chosen on the validation split: " + why_not(validation.samples);
  Json json;
  if (!reason.empty()) {
    json = empty_scores(scored.samples, options);
    json["reason"] = reason;
  } else {
    std::vector<LinearProbe> probes;
    for (const double c : kProbeC)
      probes.push_back(fit_linear_probe(train.features, d, train.samples.labels, c));
    const std::size_t chosen = best_probe(probes, validation, d);
    ScoredSplit test = scored.samples;
    test.scores = probe_scores(probes[chosen], scored.features, d);
    ScoredSplit tuning = validation.samples;
    tuning.scores = probe_scores(probes[chosen], validation.features, d);
    json = score_finding(test, tuning, options);
    json["c"] = kProbeC[chosen];
    json["c_from"] = str("AUC on split '", validation.samples.split, "' over 1e-4 ... 10");
  }
  json["features"] = d;
  json["fitted_on"] = train.samples.split;
  json["n_fitted"] = train.samples.labels.size();
  return json;
}

}  // namespace triphase::trainer
