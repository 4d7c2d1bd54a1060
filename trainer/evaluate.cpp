// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate.hpp"

#include "base/hash.hpp"
#include "trainer/evaluate_cohort.hpp"
#include "trainer/evaluate_finding.hpp"
#include "trainer/evaluate_groups.hpp"
#include "trainer/evaluate_probe.hpp"
#include "trainer/evaluate_retrieval.hpp"
#include "trainer/evaluate_splits.hpp"
#include "trainer/prompts.hpp"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <utility>

namespace triphase::trainer {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "'" : ", '") + word + "'";
  return text.empty() ? "none" : text;
}

/// Which findings are scored, and which are not.
struct Agenda {
  std::vector<FindingPrompts> prompts;    ///< each has a label column
  std::vector<std::size_t> columns;       ///< its column
  std::vector<std::string> not_scored;    ///< label columns without prompts
  std::vector<std::string> not_labelled;  ///< findings with prompts, without a label column
};

Agenda make_agenda(const data::Cache& cache, const RunConfig& config) {
  Agenda agenda;
  const std::vector<std::string>& labels = cache.findings();
  std::vector<std::string> prompted;
  if (!config.evaluate.prompts.empty()) {
    for (FindingPrompts& finding : read_prompts(config.evaluate.prompts)) {
      prompted.push_back(finding.name);
      const auto column = std::find(labels.begin(), labels.end(), finding.name);
      if (column == labels.end()) {
        agenda.not_labelled.push_back(finding.name);
        continue;
      }
      agenda.columns.push_back(static_cast<std::size_t>(column - labels.begin()));
      agenda.prompts.push_back(std::move(finding));
    }
  }
  for (const std::string& label : labels)
    if (std::find(prompted.begin(), prompted.end(), label) == prompted.end())
      agenda.not_scored.push_back(label);
  TRIPHASE_CHECK(DataError, agenda.not_scored.size() < labels.size() || labels.empty(),
                 "label without a prompt: cache '", cache.folder().string(), "' has labels for ",
                 joined(labels), ", prompts file '", config.evaluate.prompts, "' has ",
                 joined(prompted),
                 ". Write prompts for one label at least (evaluate.prompts), under the same name.");
  return agenda;
}

ScoringOptions scoring_options(const RunConfig& config) {
  ScoringOptions options;
  options.threshold_rule = config.evaluate.threshold;
  options.bootstrap_samples = config.evaluate.bootstrap_samples;
  options.seed = static_cast<std::uint64_t>(config.run.seed);
  return options;
}

std::int64_t distinct_reports(const EmbeddingTable& table, const data::Cache& cache) {
  std::set<std::vector<std::int64_t>> reports;
  for (const std::int64_t index : table.indices)
    reports.insert(cache.entries().at(static_cast<std::size_t>(index)).tokens);
  return static_cast<std::int64_t>(reports.size());
}

/// Which features a probe is fitted on.
struct ProbeFeatures {
  const at::Tensor EmbeddingTable::* rows;
  const char* words;
};
constexpr ProbeFeatures kImageFeatures{&EmbeddingTable::features, "pooled image features"};
constexpr ProbeFeatures kReportEmbedding{&EmbeddingTable::text, "embeddings of the reports"};

/// One finding's scores on the scored split, by prompts and by probes.
struct FindingScores {
  Json json;
  ScoredSplit prompts;
  std::vector<double> linear_probe;  ///< empty where there is none
  std::vector<double> report_probe;
};

/// Scores findings one after another. Collective over the embedder's group.
class FindingScorer {
 public:
  FindingScorer(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                const data::Tokenizer& tokenizer, const std::string& split, SplitEmbedder& embedder)
      : model_(model),
        cache_(cache),
        config_(config),
        tokenizer_(tokenizer),
        split_(split),
        embedder_(embedder),
        scale_(std::exp(model->log_scale().to(at::kCPU, at::kDouble).item<double>())) {}

  [[nodiscard]] FindingScores score(const FindingPrompts& prompts, std::size_t column) {
    const std::string& validation_split = config_.data.validation_split;
    const EmbeddingTable& table = embedder_.of(split_, scored_sites(config_));
    FindingScores result;
    result.prompts = by_prompts(prompts, table, column, split_);
    ScoredSplit validation;
    if (!validation_split.empty())
      validation = by_prompts(prompts, embedder_.of(validation_split, config_.data.sites), column, validation_split);
    ScoringOptions options = scoring_options(config_);
    options.scoring = words(prompts);
    options.probabilities = str("the softmax over both mean cosines at the learned scale, ", scale_);
    result.json = score_finding(result.prompts, validation, options);
    if (config_.evaluate.linear_probe) {
      ProbeResult probe = by_probe(kImageFeatures, table, column);
      result.json["linear_probe"] = std::move(probe.json);
      result.linear_probe = std::move(probe.scores);
    }
    if (config_.evaluate.report_probe) {
      ProbeResult probe = by_probe(kReportEmbedding, table, column);
      result.json["report_probe"] = std::move(probe.json);
      result.report_probe = std::move(probe.scores);
    }
    return result;
  }

 private:
  [[nodiscard]] std::string words(const FindingPrompts& prompts) const {
    const std::string means = str("mean cosine to ", prompts.positive.size(), " positive prompts minus mean cosine to ",
                                  prompts.negative.size(), " negative prompts");
    if (config_.evaluate.scoring == "difference") return means + "; no label was used";
    return str("softmax at the learned scale of the ", means, "; no label was used");
  }

  /// Samples whose label in `column` is known; the i-th one's row in the table goes to take(i).
  [[nodiscard]] ScoredSplit known_samples(const EmbeddingTable& table, std::size_t column, const std::string& split,
                                          const std::function<void(std::size_t)>& take) const {
    ScoredSplit known;
    known.split = split;
    for (std::size_t i = 0; i < table.indices.size(); ++i) {
      const data::CacheEntry& entry = cache_.entries().at(static_cast<std::size_t>(table.indices[i]));
      const std::int8_t label = entry.labels.at(column);
      if (label < 0) continue;
      known.labels.push_back(label);
      known.patient_ids.push_back(entry.patient_id);
      known.indices.push_back(table.indices[i]);
      take(i);
    }
    return known;
  }

  [[nodiscard]] ScoredSplit by_prompts(const FindingPrompts& prompts, const EmbeddingTable& table, std::size_t column,
                                       const std::string& split) {
    const std::vector<double> differences = prompt_scores(model_, table.image, prompts, tokenizer_, config_);
    std::vector<double> scores;
    std::vector<double> probabilities;
    ScoredSplit known = known_samples(table, column, split, [&](std::size_t i) {
      probabilities.push_back(1 / (1 + std::exp(-scale_ * differences[i])));
      scores.push_back(config_.evaluate.scoring == "softmax" ? probabilities.back() : differences[i]);
    });
    known.scores = std::move(scores);
    known.probabilities = std::move(probabilities);
    return known;
  }

  [[nodiscard]] ProbeSplit with_features(const ProbeFeatures& which, const EmbeddingTable& table, std::size_t column,
                                         const std::string& split) const {
    const at::Tensor features = (table.*which.rows).to(at::kDouble).contiguous();
    const auto width = static_cast<std::size_t>(features.size(1));
    const double* rows = features.const_data_ptr<double>();
    ProbeSplit known;
    known.samples = known_samples(table, column, split, [&](std::size_t i) {
      known.features.insert(known.features.end(), rows + i * width, rows + (i + 1) * width);
    });
    return known;
  }

  [[nodiscard]] ProbeResult by_probe(const ProbeFeatures& which, const EmbeddingTable& scored, std::size_t column) {
    const auto of = [&](const std::string& split) {
      return with_features(which, embedder_.of(split, config_.data.sites), column, split);
    };
    const std::string& validation_split = config_.data.validation_split;
    return score_probe(of(config_.data.train_split), validation_split.empty() ? ProbeSplit{} : of(validation_split),
                       with_features(which, scored, column, split_), (scored.*which.rows).size(1),
                       scoring_options(config_),
                       {.features = which.words,
                        .shots = config_.evaluate.k_shot,
                        .repeats = config_.evaluate.k_shot_repeats});
  }

  models::TwoTower& model_;
  const data::Cache& cache_;
  const RunConfig& config_;
  const data::Tokenizer& tokenizer_;
  std::string split_;
  SplitEmbedder& embedder_;
  double scale_;
};

/// {index, label, prompt, linear_probe, report_probe}: what paired comparisons of runs need, and no id.
Json score_rows(const FindingScores& scores) {
  const auto or_null = [](const std::vector<double>& values) { return values.empty() ? Json() : Json(values); };
  return {{"index", scores.prompts.indices},
          {"label", scores.prompts.labels},
          {"prompt", scores.prompts.scores},
          {"linear_probe", or_null(scores.linear_probe)},
          {"report_probe", or_null(scores.report_probe)}};
}

}  // namespace

Evaluation evaluate_with_scores(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                                const std::string& split, dist::ProcessGroup& group, bool show_progress) {
  Agenda agenda;
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::vector<std::int64_t> indices;
  std::vector<std::pair<std::string, SampleGroups>> subgroups;
  dist::agree_on(group, [&] {
    agenda = make_agenda(cache, config);
    if (!agenda.prompts.empty()) tokenizer = std::make_unique<data::Tokenizer>(open_tokenizer(config, cache));
    indices = cache.select(split, scored_sites(config));
    if (config.evaluate.subgroups.empty()) return;
    const data::Manifest manifest = data::read_manifest(config.evaluate.manifest);
    for (const std::string& column : config.evaluate.subgroups)
      subgroups.emplace_back(column, groups_by_column(manifest, column, cache, indices));
  });
  SplitEmbedder embedder(model, cache, config, group, show_progress);
  const EmbeddingTable& scored = embedder.of(split, scored_sites(config));
  const SampleGroups sites = groups_by_site(cache, indices);
  Evaluation evaluation;
  evaluation.scores = {{"data_hash", cache.data_hash()}, {"split", split}, {"findings", Json::object()}};
  Json& json = evaluation.json;
  json = {{"schema_version", 1}, {"split", split}, {"n", indices.size()}};
  std::set<std::string> site_names;
  for (const auto& [index, site] : sites) site_names.insert(site);
  json["sites"] = site_names;
  json["findings"] = Json::object();
  std::map<std::string, ScoredSplit> by_finding;
  for (std::size_t i = 0; i < agenda.prompts.size(); ++i) {
    const std::string& name = agenda.prompts[i].name;
    FindingScorer scorer(model, cache, config, *tokenizer, split, embedder);
    FindingScores scores = scorer.score(agenda.prompts[i], agenda.columns[i]);
    json["findings"][name] = std::move(scores.json);
    evaluation.scores["findings"][name] = score_rows(scores);
    by_finding[name] = std::move(scores.prompts);
  }
  json["not_scored"] = agenda.not_scored;
  json["not_labelled"] = agenda.not_labelled;
  json["by_site"] = score_groups("site", sites, by_finding, scoring_options(config));
  json["by_subgroup"] = Json::array();
  for (const auto& [column, groups] : subgroups) {
    for (Json row : score_groups("value", groups, by_finding, scoring_options(config))) {
      row["column"] = column;
      json["by_subgroup"].push_back(std::move(row));
    }
  }
  json["retrieval"] = score_retrieval(scored.image, scored.text, static_cast<std::uint64_t>(config.run.seed));
  json["retrieval"]["distinct_reports"] = distinct_reports(scored, cache);
  json["bootstrap"] = Json{{"samples", config.evaluate.bootstrap_samples},
                           {"unit", "patient"},
                           {"interval", "percentile 95 %"},
                           {"seed", config.run.seed}};
  json["model"] = Json{{"preset", config.model.preset}};
  json["phantom"] = is_phantom(config, cache);
  json["cohort"] = cohort_counts(cache);
  json["data_hash"] = cache.data_hash();
  json["spec_hash"] = cache.spec().hash();
  if (!config.evaluate.prompts.empty()) json["prompts_hash"] = hex64(hash_file(config.evaluate.prompts));
  return evaluation;
}

Json evaluate_model(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                    const std::string& split, dist::ProcessGroup& group, bool show_progress) {
  return evaluate_with_scores(model, cache, config, split, group, show_progress).json;
}

}  // namespace triphase::trainer
