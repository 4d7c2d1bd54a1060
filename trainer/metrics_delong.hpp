// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace triphase::trainer {

/// An AUC with DeLong's variance. The interval is auc -/+ 1.96 standard errors, cut at 0 and 1; variance
/// and interval are NaN where a class has one sample.
struct AucInterval {
  double auc = 0;
  double variance = 0;
  std::array<double, 2> ci95{};
};
/// @throws DataError when a class is absent, NumericsError for scores that are not finite
/// Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; midranks as in Sun and Xu, IEEE
/// Signal Processing Letters 21, 2014, so O(n log n). It takes samples for independent.
[[nodiscard]] AucInterval delong_interval(const std::vector<double>& scores,
                                          const std::vector<std::int8_t>& labels);

/// The AUC of `a` less that of `b`, on the same samples; two-sided p of "no difference" (1 where both have
/// the same AUC without variance). NaN as above.
struct AucDifference {
  double difference = 0;
  double variance = 0;
  std::array<double, 2> ci95{};
  double p = 1;
};
[[nodiscard]] AucDifference compare_aucs(const std::vector<double>& a, const std::vector<double>& b,
                                         const std::vector<std::int8_t>& labels);

}  // namespace triphase::trainer
