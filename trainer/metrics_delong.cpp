// SPDX-License-Identifier: Apache-2.0
#include "trainer/metrics_delong.hpp"

#include "base/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace triphase::trainer {
namespace {

constexpr double kNormal975 = 1.959963984540054;  // the 97.5 % point of the standard normal

/// Ranks from 1, ties at their mean.
std::vector<double> midranks(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    while (last < order.size() && !(values[order[first]] < values[order[last]])) ++last;
    const double middle = 0.5 * static_cast<double>(first + 1 + last);
    for (std::size_t i = first; i < last; ++i) ranks[order[i]] = middle;
    first = last;
  }
  return ranks;
}

/// For each positive the share of the negatives below it, and for each negative that of the positives above.
struct Placements {
  std::vector<double> of_positives;
  std::vector<double> of_negatives;
  double auc = 0;
};

Placements place(const std::vector<double>& scores, const std::vector<std::int8_t>& labels) {
  TRIPHASE_CHECK(InternalError, scores.size() == labels.size(), "DeLong got ", scores.size(),
                 " scores and ", labels.size(), " labels");
  std::vector<double> positives;
  std::vector<double> negatives;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    TRIPHASE_CHECK(NumericsError, std::isfinite(scores[i]), "a score is ", scores[i],
                   ", so nothing can be ranked. Look for weights that are not finite.");
    (labels[i] == 1 ? positives : negatives).push_back(scores[i]);
  }
  TRIPHASE_CHECK(DataError, !positives.empty() && !negatives.empty(), "an AUC needs both classes; ",
                 positives.size(), " of ", scores.size(), " samples are positive");
  std::vector<double> all = positives;
  all.insert(all.end(), negatives.begin(), negatives.end());
  const std::vector<double> among_all = midranks(all);
  const std::vector<double> among_positives = midranks(positives);
  const std::vector<double> among_negatives = midranks(negatives);
  const auto p = static_cast<double>(positives.size());
  const auto n = static_cast<double>(negatives.size());
  Placements result;
  for (std::size_t i = 0; i < positives.size(); ++i)
    result.of_positives.push_back((among_all[i] - among_positives[i]) / n);
  for (std::size_t j = 0; j < negatives.size(); ++j)
    result.of_negatives.push_back(1 - (among_all[positives.size() + j] - among_negatives[j]) / p);
  result.auc = std::accumulate(result.of_positives.begin(), result.of_positives.end(), 0.0) / p;
  return result;
}

/// Sample variance over its size: what one class adds to the variance of the mean. NaN for one value.
double variance_of_mean(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return values.size() < 2 ? std::numeric_limits<double>::quiet_NaN() : squares / (n - 1) / n;
}

std::vector<double> differences(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result(a.size());
  std::transform(a.begin(), a.end(), b.begin(), result.begin(), std::minus<>());
  return result;
}

std::array<double, 2> around(double center, double variance, double low, double high) {
  if (std::isnan(variance)) return {variance, variance};
  const double half = kNormal975 * std::sqrt(variance);
  return {std::max(low, center - half), std::min(high, center + half)};
}

}  // namespace

AucInterval delong_interval(const std::vector<double>& scores,
                            const std::vector<std::int8_t>& labels) {
  const Placements placed = place(scores, labels);
  AucInterval result{.auc = placed.auc};
  result.variance = variance_of_mean(placed.of_positives) + variance_of_mean(placed.of_negatives);
  result.ci95 = around(result.auc, result.variance, 0, 1);
  return result;
}

AucDifference compare_aucs(const std::vector<double>& a, const std::vector<double>& b,
                           const std::vector<std::int8_t>& labels) {
  const Placements of_a = place(a, labels);
  const Placements of_b = place(b, labels);
  AucDifference result{.difference = of_a.auc - of_b.auc};
  result.variance = variance_of_mean(differences(of_a.of_positives, of_b.of_positives)) +
                    variance_of_mean(differences(of_a.of_negatives, of_b.of_negatives));
  result.ci95 = around(result.difference, result.variance, -1, 1);
  if (std::isnan(result.variance))
    result.p = result.variance;
  else if (result.variance > 0)
    result.p = std::erfc(std::abs(result.difference) / std::sqrt(2 * result.variance));
  else
    result.p = result.difference == 0 ? 1 : 0;
  return result;
}

}  // namespace triphase::trainer
