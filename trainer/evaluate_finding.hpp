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
  std::vector<std::int64_t> indices;     ///< into Cache::entries(); may be empty
  std::vector<double> probabilities;     ///< of label 1, for calibration; may be empty
};

struct ScoringOptions {
  std::string scoring;                    ///< how the scores were made, in words
  std::string probabilities;              ///< how the probabilities were made, in words
  std::string threshold_rule;             ///< "youden" or "f1"
  std::int64_t bootstrap_samples = 1000;  ///< 0: no intervals
  std::uint64_t seed = 0;
};

/// AUC (also with DeLong's interval), average precision, and at the threshold F1, sensitivity, specificity,
/// predictive values and balanced accuracy, with intervals, as design §6 names them; `roc` {fpr, tpr,
/// tpr_low, tpr_high} and `precision_recall` {recall, precision, ...} at curve_grid(); `calibration` {of,
/// brier, ece, bins: [{from, to, n, mean_predicted, fraction_positive}]} where there are probabilities. The
/// threshold comes from `validation`, which may have no rows (then there is none). A number that cannot be
/// had (one class absent) is null and "reason" says why; nothing is ever NaN.
/// @throws NumericsError for a score that is not finite, or a probability outside [0, 1]
[[nodiscard]] Json score_finding(const ScoredSplit& scored, const ScoredSplit& validation,
                                 const ScoringOptions& options);

/// Whether AUC and the like exist, and words for why not.
[[nodiscard]] bool has_both_classes(const ScoredSplit& split);
[[nodiscard]] std::string why_not(const ScoredSplit& split);

/// The fields of score_finding(), null, for scores that are not to be had.
[[nodiscard]] Json no_scores(const ScoredSplit& scored, const ScoringOptions& options, const std::string& reason);

}  // namespace triphase::trainer
