// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/paired.hpp"

#include "base/error.hpp"
#include "trainer/metrics.hpp"
#include "trainer/metrics_delong.hpp"
#include "trainer/report/fields.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

namespace triphase::trainer {
namespace {

/// One run's scores of one finding, made in one way.
struct SampleScores {
  std::size_t run = 0;
  std::vector<double> scores;
  std::vector<std::int8_t> labels;
};
/// What must be equal for two to be compared, and what the comparison is called.
struct Studies {
  std::string split;
  std::string finding;
  std::string scored_by;
  std::string identity;  ///< data hash, samples and labels
  auto operator<=>(const Studies&) const = default;
};

constexpr std::array<std::pair<const char*, const char*>, 2> kScoredBy{
    {{"prompt", "prompts"}, {"linear_probe", "linear probe"}}};

void collect(const ReportRun& run, std::size_t place,
             std::map<Studies, std::vector<SampleScores>>& by_studies) {
  for (const Json& file : run.scores) {
    const Json hash = member(file, "data_hash");
    const Json split = member(file, "split");
    const Json findings = member(file, "findings");
    if (!hash.is_string() || !split.is_string()) continue;
    for (const auto& [finding, values] : findings.items()) {
      for (const auto& [key, name] : kScoredBy) {
        const Json scores = member(values, key);
        const Json labels = member(values, "label");
        if (!scores.is_array() || !labels.is_array()) continue;
        TRIPHASE_CHECK(DataError, scores.size() == labels.size(), "the scores of run '", run.name,
                       "', finding '", finding, "', are ", scores.size(), " for ", labels.size(),
                       " labels. Evaluate that run again.");
        const std::string identity =
            hash.get<std::string>() + member(values, "index").dump() + labels.dump();
        by_studies[{split, finding, name, identity}].push_back(
            {place, scores.get<std::vector<double>>(), labels.get<std::vector<std::int8_t>>()});
      }
    }
  }
}

/// Places of pairs (a, b) in `scored`.
std::vector<std::pair<std::size_t, std::size_t>> pairs_of(const std::vector<SampleScores>& scored,
                                                          const Json& runs) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  if (scored.size() <= kMaxAllPairs) {
    for (std::size_t a = 0; a < scored.size(); ++a)
      for (std::size_t b = a + 1; b < scored.size(); ++b) pairs.emplace_back(a, b);
    return pairs;
  }
  const auto bare = std::find_if(scored.begin(), scored.end(), [&](const SampleScores& each) {
    return runs[each.run].at("method") == "none";
  });
  const auto a = bare == scored.end() ? 0 : static_cast<std::size_t>(bare - scored.begin());
  for (std::size_t b = 0; b < scored.size(); ++b)
    if (b != a) pairs.emplace_back(a, b);
  return pairs;
}

void add_holm(Json& comparisons) {
  std::vector<std::size_t> order(comparisons.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return comparisons[a]["p_value"].get<double>() < comparisons[b]["p_value"].get<double>();
  });
  double corrected = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const double p = comparisons[order[i]]["p_value"].get<double>();
    corrected = std::max(corrected, std::min(1.0, p * static_cast<double>(order.size() - i)));
    comparisons[order[i]]["p_holm"] = corrected;
  }
}

}  // namespace

Json paired_differences(const std::vector<ReportRun>& runs, const Json& figures) {
  Json result = Json::array();
  std::map<Studies, std::vector<SampleScores>> by_studies;
  for (std::size_t i = 0; i < runs.size(); ++i) collect(runs[i], i, by_studies);
  const Json& names = figures.at("runs");
  for (const auto& [studies, scored] : by_studies) {
    const std::vector<std::int8_t>& labels = scored.front().labels;
    const auto positive = std::count(labels.begin(), labels.end(), std::int8_t{1});
    if (positive == 0 || positive == static_cast<std::ptrdiff_t>(labels.size())) continue;
    for (const auto& [a, b] : pairs_of(scored, names)) {
      const AucDifference found = compare_aucs(scored[b].scores, scored[a].scores, labels);
      if (!std::isfinite(found.p)) continue;
      result.push_back({{"run_a", names[scored[a].run].at("name")},
                        {"run_b", names[scored[b].run].at("name")},
                        {"split", studies.split},
                        {"finding", studies.finding},
                        {"scored_by", studies.scored_by},
                        {"n", labels.size()},
                        {"auc_a", roc_auc(scored[a].scores, labels)},
                        {"auc_b", roc_auc(scored[b].scores, labels)},
                        {"difference", found.difference},
                        {"difference_ci95", {found.ci95[0], found.ci95[1]}},
                        {"p_value", found.p}});
    }
  }
  add_holm(result);
  return result;
}

}  // namespace triphase::trainer
