// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/evaluate_finding.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace triphase::trainer {

/// Features of one split beside their labels, for a linear probe.
struct ProbeSplit {
  ScoredSplit samples;           ///< scores are ignored
  std::vector<double> features;  ///< row-major [n, d]
};

struct ProbeOptions {
  std::string features = "pooled image features";  ///< what they are, in words
  std::vector<std::int64_t> shots;  ///< samples of each class to fit on, for the curve; rising
  std::int64_t repeats = 10;        ///< draws for each of them, and of shuffled labels
};

struct ProbeResult {
  /// The fields of score_finding() and `c`, `c_from`, `features`, `fitted_on`, `n_fitted`; `k_shot`
  /// [{k, repeats, auc_mean, auc_sd}], null where the training split is too small for any; `shuffled_labels`
  /// {repeats, auc_mean, auc_sd}, fitted on labels in a drawn order: 0.5 but for chance, or a leak.
  Json json;
  std::vector<double> scores;  ///< of the scored split; empty where there is no probe
};

/// A linear probe: fitted on `train`, its C and threshold chosen on `validation`, scored on `scored`; draws are
/// keyed by scoring.seed. A k-shot probe is fitted on k samples of either class, drawn without replacement;
/// it takes the C of the whole probe, those of shuffled labels the strongest penalty. The deviation is that of the draws.
[[nodiscard]] ProbeResult score_probe(const ProbeSplit& train, const ProbeSplit& validation,
                                      const ProbeSplit& scored, std::int64_t d, ScoringOptions scoring,
                                      const ProbeOptions& options);

}  // namespace triphase::trainer
