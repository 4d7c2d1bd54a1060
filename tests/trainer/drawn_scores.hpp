// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/random.hpp"
#include "trainer/evaluate_probe.hpp"

namespace triphase::test {

using trainer::ProbeSplit;
using trainer::ScoringOptions;

inline constexpr std::int64_t kFeatures = 4;

/// Positives score 1 more, and their first feature is 2 more, with deviations of 1; two samples a patient.
inline ProbeSplit draw(const std::string& split, std::uint64_t seed, int n, double prevalence = 0.5) {
  KeyedRandom random{seed};
  ProbeSplit drawn;
  drawn.samples.split = split;
  for (int i = 0; i < n; ++i) {
    const bool positive = random.chance(prevalence);
    drawn.samples.labels.push_back(positive ? 1 : 0);
    drawn.samples.scores.push_back(random.normal(positive ? 1 : 0, 1));
    drawn.samples.patient_ids.push_back(str(split, i / 2));
    for (std::int64_t j = 0; j < kFeatures; ++j)
      drawn.features.push_back(random.normal(positive && j == 0 ? 2 : 0, 1));
  }
  return drawn;
}

inline ScoringOptions options() {
  return {.scoring = "prompts", .probabilities = "", .threshold_rule = "youden", .bootstrap_samples = 100, .seed = 3};
}

}  // namespace triphase::test
