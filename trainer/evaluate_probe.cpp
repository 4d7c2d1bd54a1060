// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_probe.hpp"

#include "base/error.hpp"
#include "base/random.hpp"
#include "trainer/metrics.hpp"

#include <array>
#include <cmath>

namespace triphase::trainer {
namespace {

/// Strong to weak: with a few hundred samples and as many features the strong end is the useful
/// one.
constexpr std::array<double, 6> kProbeC{1e-4, 1e-3, 1e-2, 1e-1, 1, 10};

// What draws are keyed for, beside the seed.
constexpr std::uint64_t kShots = 0x5407;
constexpr std::uint64_t kShuffle = 0x5f1e;

struct TunedProbe {
  LinearProbe probe;
  double c = 0;
};

/// The probe whose C has the best AUC on the validation split; of equals the stronger penalty.
TunedProbe tune(const ProbeSplit& train, const ProbeSplit& validation, std::int64_t d) {
  TunedProbe best;
  double best_auc = -1;
  for (const double c : kProbeC) {
    LinearProbe probe = fit_linear_probe(train.features, d, train.samples.labels, c);
    const double auc = roc_auc(probe_scores(probe, validation.features, d), validation.samples.labels);
    if (!(auc > best_auc)) continue;
    best_auc = auc;
    best = {std::move(probe), c};
  }
  return best;
}

std::vector<double> logistic(const std::vector<double>& margins) {
  std::vector<double> probabilities;
  for (const double margin : margins) probabilities.push_back(1 / (1 + std::exp(-margin)));
  return probabilities;
}

/// AUCs of several probes on the scored split, summed up.
Json summary(const std::vector<double>& aucs) {
  const auto n = static_cast<double>(aucs.size());
  double mean = 0;
  for (const double auc : aucs) mean += auc / n;
  double squares = 0;
  for (const double auc : aucs) squares += (auc - mean) * (auc - mean);
  return {{"repeats", aucs.size()},
          {"auc_mean", mean},
          {"auc_sd", aucs.size() > 1 ? Json(std::sqrt(squares / (n - 1))) : Json()}};
}

class ProbeRepeats {
 public:
  ProbeRepeats(const ProbeSplit& train, const ProbeSplit& scored, std::int64_t d, double c,
               std::uint64_t seed, std::int64_t repeats)
      : train_(train), scored_(scored), d_(d), c_(c), seed_(seed), repeats_(repeats) {}

  [[nodiscard]] Json k_shot(const std::vector<std::int64_t>& shots) const {
    std::array<std::vector<std::size_t>, 2> rows;  // by label
    for (std::size_t i = 0; i < train_.samples.labels.size(); ++i)
      rows[static_cast<std::size_t>(train_.samples.labels[i])].push_back(i);
    Json curve = Json::array();
    for (const std::int64_t k : shots) {
      if (k > static_cast<std::int64_t>(std::min(rows[0].size(), rows[1].size()))) break;
      std::vector<double> aucs;
      for (std::int64_t repeat = 0; repeat < repeats_; ++repeat)
        aucs.push_back(auc_of(draw(rows, k, repeat), c_));
      Json point{{"k", k}};
      point.update(summary(aucs));
      curve.push_back(std::move(point));
    }
    return curve.empty() ? Json() : curve;
  }

  [[nodiscard]] Json shuffled_labels() const {
    std::vector<double> aucs;
    for (std::int64_t repeat = 0; repeat < repeats_; ++repeat) {
      const std::vector<std::int64_t> order =
          keyed_permutation(static_cast<std::int64_t>(train_.samples.labels.size()),
                            KeyedRandom{seed_, kShuffle, static_cast<std::uint64_t>(repeat)});
      ProbeSplit shuffled = train_;
      for (std::size_t i = 0; i < order.size(); ++i)
        shuffled.samples.labels[i] = train_.samples.labels[static_cast<std::size_t>(order[i])];
      aucs.push_back(auc_of(shuffled, kProbeC.front()));  // the quickest to fit; a leak shows at any
    }
    return summary(aucs);
  }

 private:
  /// The first k of either class in this repeat's order: fewer shots are among more.
  [[nodiscard]] ProbeSplit draw(const std::array<std::vector<std::size_t>, 2>& rows, std::int64_t k,
                                std::int64_t repeat) const {
    ProbeSplit drawn;
    const auto width = static_cast<std::size_t>(d_);
    for (std::size_t label = 0; label < 2; ++label) {
      const std::vector<std::int64_t> order = keyed_permutation(
          static_cast<std::int64_t>(rows[label].size()),
          KeyedRandom{seed_, kShots, label, static_cast<std::uint64_t>(repeat)});
      for (std::int64_t i = 0; i < k; ++i) {
        const std::size_t row = rows[label][static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
        const auto first = train_.features.begin() + static_cast<std::ptrdiff_t>(row * width);
        drawn.features.insert(drawn.features.end(), first, first + d_);
        drawn.samples.labels.push_back(static_cast<std::int8_t>(label));
      }
    }
    return drawn;
  }

  /// Of a probe fitted on these samples.
  [[nodiscard]] double auc_of(const ProbeSplit& fitted_on, double c) const {
    const LinearProbe probe = fit_linear_probe(fitted_on.features, d_, fitted_on.samples.labels, c);
    return roc_auc(probe_scores(probe, scored_.features, d_), scored_.samples.labels);
  }

  const ProbeSplit& train_;
  const ProbeSplit& scored_;
  std::int64_t d_;
  double c_;
  std::uint64_t seed_;
  std::int64_t repeats_;
};

std::string why_no_probe(const ProbeSplit& train, const ProbeSplit& validation, const ProbeSplit& scored) {
  if (train.samples.split == scored.samples.split)
    return str("split '", scored.samples.split, "' is the one the probe would be fitted on");
  if (!has_both_classes(train.samples)) return why_not(train.samples);
  if (!has_both_classes(validation.samples))
    return "C is chosen on the validation split: " + why_not(validation.samples);
  return "";
}

}  // namespace

ProbeResult score_probe(const ProbeSplit& train, const ProbeSplit& validation, const ProbeSplit& scored,
                        std::int64_t d, ScoringOptions scoring, const ProbeOptions& options) {
  scoring.scoring = str("logistic regression on standardised ", options.features, "; labels of split '",
                        train.samples.split, "' are used here and nowhere else");
  scoring.probabilities = "the logistic regression's probability";
  ProbeResult result;
  Json& json = result.json;
  if (const std::string reason = why_no_probe(train, validation, scored); !reason.empty()) {
    json = no_scores(scored.samples, scoring, reason);
  } else {
    const TunedProbe tuned = tune(train, validation, d);
    ScoredSplit test = scored.samples;
    test.scores = probe_scores(tuned.probe, scored.features, d);
    test.probabilities = logistic(test.scores);
    ScoredSplit tuning = validation.samples;
    tuning.scores = probe_scores(tuned.probe, validation.features, d);
    json = score_finding(test, tuning, scoring);
    result.scores = std::move(test.scores);
    json["c"] = tuned.c;
    json["c_from"] = str("AUC on split '", validation.samples.split, "' over 1e-4 ... 10");
  }
  json["features"] = d;
  json["fitted_on"] = train.samples.split;
  json["n_fitted"] = train.samples.labels.size();
  json["k_shot"] = nullptr;
  json["shuffled_labels"] = nullptr;
  if (result.scores.empty() || !has_both_classes(scored.samples)) return result;
  const ProbeRepeats repeats(train, scored, d, json.at("c").get<double>(), scoring.seed, options.repeats);
  json["k_shot"] = repeats.k_shot(options.shots);
  json["shuffled_labels"] = repeats.shuffled_labels();
  return result;
}

}  // namespace triphase::trainer
