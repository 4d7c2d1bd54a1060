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

struct ThresholdMetrics {
  double f1 = 0;
  double sensitivity = 0;
  double specificity = 0;
};
/// Predicts 1 where score >= threshold. F1 is 0 when nothing is found; sensitivity (specificity) is
/// NaN without positives (negatives).
[[nodiscard]] ThresholdMetrics metrics_at(double threshold, const std::vector<double>& scores,
                                          const std::vector<std::int8_t>& labels);

/// The observed score that maximises Youden's J ("youden") or F1 ("f1"); ties: the highest one.
/// @throws DataError when a class is absent
[[nodiscard]] double choose_threshold(const std::string& rule, const std::vector<double>& scores,
                                      const std::vector<std::int8_t>& labels);

struct BootstrapIntervals {
  std::array<double, 2> auc{};
  std::array<double, 2> f1{};
  std::array<double, 2> sensitivity{};
  std::array<double, 2> specificity{};
};
/// Percentile 95 % intervals from resampling whole patients, keyed by seed. Resamples that hold one
/// class only are drawn again; the threshold is not chosen anew. Source: Efron and Tibshirani, An
/// Introduction to the Bootstrap, 1993, ch. 13.
[[nodiscard]] BootstrapIntervals bootstrap_by_patient(const std::vector<double>& scores,
                                                      const std::vector<std::int8_t>& labels,
                                                      const std::vector<std::string>& patient_ids,
                                                      double threshold, std::int64_t num_samples,
                                                      std::uint64_t seed);

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
