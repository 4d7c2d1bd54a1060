// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace triphase::trainer {

/// One finding's scores on one split, unknown labels left out; row i is one sample.
struct ScoredSplit {
  std::string split;
  std::vector<double> scores;
  std::vector<std::int8_t> labels;       ///< 1 or 0
  std::vector<std::string> patient_ids;  ///< for the bootstrap; may be empty where none is drawn
};

struct ScoringOptions {
  std::string scoring;                    ///< how the scores were made, in words
  std::string threshold_rule;             ///< "youden" or "f1"
  std::int64_t bootstrap_samples = 1000;  ///< 0: no intervals
  std::uint64_t seed = 0;
};

/// AUC (also with DeLong's interval), average precision, and at the threshold F1, sensitivity, specificity,
/// predictive values and balanced accuracy, with intervals, as design §6 names them; `roc` {fpr, tpr,
/// tpr_low, tpr_high} and `precision_recall` {recall, precision, ...} at curve_grid(). The threshold
/// comes from `validation`, which may have no rows (then there is none). A number that cannot be
/// had (one class absent) is null and "reason" says why; nothing is ever NaN.
[[nodiscard]] Json score_finding(const ScoredSplit& scored, const ScoredSplit& validation,
                                 const ScoringOptions& options);

/// Features of one split beside their labels, for the linear probe.
struct ProbeSplit {
  ScoredSplit samples;           ///< scores are ignored
  std::vector<double> features;  ///< row-major [n, d]
};

/// A linear probe: fitted on `train`, its C and threshold chosen on `validation`, scored on
/// `scored`. The fields of score_finding() and `c`, `c_from`, `features`, `fitted_on`, `n_fitted`.
[[nodiscard]] Json score_linear_probe(const ProbeSplit& train, const ProbeSplit& validation,
                                      const ProbeSplit& scored, std::int64_t d,
                                      ScoringOptions options);

}  // namespace triphase::trainer
