// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace triphase::trainer {

/// Area under the ROC curve by the rank sum; ties count one half. NaN when a class is absent.
/// @param labels 1 or 0, same length as scores
/// Source: Hanley and McNeil, Radiology 143, 1982.
[[nodiscard]] double roc_auc(const std::vector<double>& scores,
                             const std::vector<std::int8_t>& labels);

/// Mean over the positives' share of recall of the precision at their score; ties enter together. NaN
/// without positives. Equal to scikit-learn's average_precision_score.
[[nodiscard]] double average_precision(const std::vector<double>& scores,
                                       const std::vector<std::int8_t>& labels);

struct ThresholdMetrics {
  double f1 = 0;
  double sensitivity = 0;
  double specificity = 0;
  double ppv = 0;                ///< positive predictive value, or precision
  double npv = 0;                ///< negative predictive value
  double balanced_accuracy = 0;  ///< mean of sensitivity and specificity
};
/// Predicts 1 where score >= threshold. F1 is 0 when nothing is found; sensitivity (specificity) is
/// NaN without positives (negatives), balanced accuracy with either, ppv (npv) where nothing is predicted
/// positive (negative).
[[nodiscard]] ThresholdMetrics metrics_at(double threshold, const std::vector<double>& scores,
                                          const std::vector<std::int8_t>& labels);

/// The observed score that maximises Youden's J ("youden") or F1 ("f1"); ties: the highest one.
/// @throws DataError when a class is absent
[[nodiscard]] double choose_threshold(const std::string& rule, const std::vector<double>& scores,
                                      const std::vector<std::int8_t>& labels);

/// Of the points of curve_grid(), each by itself.
struct CurveBand {
  std::vector<double> low;
  std::vector<double> high;
};

struct BootstrapIntervals {
  std::array<double, 2> auc{};
  std::array<double, 2> average_precision{};
  std::array<double, 2> f1{};
  std::array<double, 2> sensitivity{};
  std::array<double, 2> specificity{};
  std::array<double, 2> ppv{};  ///< over the resamples in which it is defined; NaN when in none
  std::array<double, 2> npv{};  ///< likewise
  std::array<double, 2> balanced_accuracy{};
  CurveBand roc;
  CurveBand precision_recall;
};
/// Percentile 95 % intervals from resampling whole patients, keyed by seed. Resamples that hold one
/// class only are drawn again; the threshold is not chosen anew. Source: Efron and Tibshirani, An
/// Introduction to the Bootstrap, 1993, ch. 13.
[[nodiscard]] BootstrapIntervals bootstrap_by_patient(const std::vector<double>& scores,
                                                      const std::vector<std::int8_t>& labels,
                                                      const std::vector<std::string>& patient_ids,
                                                      double threshold, std::int64_t num_samples,
                                                      std::uint64_t seed);

/// How far probabilities are from what happened.
struct CalibrationBin {
  double from = 0;
  double to = 0;
  std::int64_t n = 0;
  double mean_predicted = 0;
  double fraction_positive = 0;
};
struct Calibration {
  double brier = 0;  ///< mean squared distance of probability and label
  double ece = 0;    ///< expected calibration error: mean distance of the bins' two means, by their samples
  std::vector<CalibrationBin> bins;  ///< of equal width over [0, 1], the last with its end; empty ones left out
};
/// @param probabilities of label 1, in [0, 1], one at least
/// @throws NumericsError for one outside
/// Source: Brier, Monthly Weather Review 78, 1950; Naeini et al., AAAI 2015.
[[nodiscard]] Calibration calibration(const std::vector<double>& probabilities,
                                      const std::vector<std::int8_t>& labels, int num_bins = 10);

/// L2-regularised logistic regression by Newton's method (inner systems by conjugate gradients) on
/// standardised features; deterministic.
struct LinearProbe {
  std::vector<double> weights;  ///< on raw features
  double intercept = 0;
};
/// Minimises sum of log-losses + ||w||^2 / (2C) (w on standardised features; the intercept is
/// free), as scikit-learn's LogisticRegression states it. @param features row-major [n, d]
[[nodiscard]] LinearProbe fit_linear_probe(const std::vector<double>& features, std::int64_t d,
                                           const std::vector<std::int8_t>& labels, double c);
[[nodiscard]] std::vector<double> probe_scores(const LinearProbe& probe,
                                               const std::vector<double>& features, std::int64_t d);

}  // namespace triphase::trainer
