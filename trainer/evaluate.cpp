// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate.hpp"

#include "base/hash.hpp"
#include "trainer/evaluate_cohort.hpp"
#include "trainer/evaluate_finding.hpp"
#include "trainer/evaluate_retrieval.hpp"
#include "trainer/prompts.hpp"

#include <ATen/Functions.h>

#include <algorithm>
#include <map>
#include <set>

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

/// Embeds each split once, however often it is asked for. Collective.
class SplitEmbedder {
 public:
  SplitEmbedder(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                dist::ProcessGroup& group, bool show_progress)
      : model_(model), cache_(cache), config_(config), group_(group), progress_(show_progress) {}

  const EmbeddingTable& of(const std::string& split) {
    const auto found = tables_.find(split);
    if (found != tables_.end()) return found->second;
    std::vector<std::int64_t> indices;
    dist::agree_on(group_, [&] { indices = cache_.select(split, config_.data.sites); });
    return tables_
        .emplace(split, embed_samples(model_, cache_, indices, config_, group_, progress_))
        .first->second;
  }

 private:
  models::TwoTower& model_;
  const data::Cache& cache_;
  const RunConfig& config_;
  dist::ProcessGroup& group_;
  bool progress_;
  std::map<std::string, EmbeddingTable> tables_;
};

/// Rows of `table` whose label in `column` is known.
ProbeSplit known_rows(const EmbeddingTable& table, const data::Cache& cache, std::size_t column,
                      const std::string& split, const std::vector<double>& scores,
                      bool with_features) {
  ProbeSplit known;
  known.samples.split = split;
  const at::Tensor features = table.features.to(at::kDouble).contiguous();
  const auto width = static_cast<std::size_t>(features.size(1));
  const double* rows = features.const_data_ptr<double>();
  for (std::size_t i = 0; i < table.indices.size(); ++i) {
    const data::CacheEntry& entry = cache.entries().at(static_cast<std::size_t>(table.indices[i]));
    const std::int8_t label = entry.labels.at(column);
    if (label < 0) continue;
    known.samples.labels.push_back(label);
    known.samples.patient_ids.push_back(entry.patient_id);
    if (!scores.empty()) known.samples.scores.push_back(scores[i]);
    if (with_features)
      known.features.insert(known.features.end(), rows + i * width, rows + (i + 1) * width);
  }
  return known;
}

std::int64_t distinct_reports(const EmbeddingTable& table, const data::Cache& cache) {
  std::set<std::vector<std::int64_t>> reports;
  for (const std::int64_t index : table.indices)
    reports.insert(cache.entries().at(static_cast<std::size_t>(index)).tokens);
  return static_cast<std::int64_t>(reports.size());
}

/// One finding by its prompts and, when wanted, by a linear probe.
class FindingScorer {
 public:
  FindingScorer(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                const data::Tokenizer& tokenizer, const std::string& split)
      : model_(model), cache_(cache), config_(config), tokenizer_(tokenizer), split_(split) {}

  [[nodiscard]] Json score(const FindingPrompts& prompts, std::size_t column,
                           SplitEmbedder& embedder) const {
    const bool probe = config_.evaluate.linear_probe;
    const std::string& validation_split = config_.data.validation_split;
    const ProbeSplit scored = rows(prompts, column, split_, embedder, true, probe);
    ProbeSplit validation;
    if (!validation_split.empty())
      validation = rows(prompts, column, validation_split, embedder, true, probe);
    ScoringOptions options;
    options.scoring =
        str("mean cosine to ", prompts.positive.size(), " positive prompts minus mean cosine to ",
            prompts.negative.size(), " negative prompts; no label was used");
    options.threshold_rule = config_.evaluate.threshold;
    options.bootstrap_samples = config_.evaluate.bootstrap_samples;
    options.seed = static_cast<std::uint64_t>(config_.run.seed);
    Json json = score_finding(scored.samples, validation.samples, options);
    if (!probe) return json;
    const ProbeSplit train = rows(prompts, column, config_.data.train_split, embedder, false, true);
    json["linear_probe"] = score_linear_probe(train, validation, scored,
                                              model_->image_tower()->num_features(), options);
    return json;
  }

 private:
  [[nodiscard]] ProbeSplit rows(const FindingPrompts& prompts, std::size_t column,
                                const std::string& split, SplitEmbedder& embedder, bool with_scores,
                                bool with_features) const {
    const EmbeddingTable& table = embedder.of(split);
    std::vector<double> scores;
    if (with_scores) scores = prompt_scores(model_, table.image, prompts, tokenizer_, config_);
    return known_rows(table, cache_, column, split, scores, with_features);
  }

  models::TwoTower& model_;
  const data::Cache& cache_;
  const RunConfig& config_;
  const data::Tokenizer& tokenizer_;
  std::string split_;
};

}  // namespace

Json evaluate_model(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                    const std::string& split, dist::ProcessGroup& group, bool show_progress) {
  Agenda agenda;
  std::unique_ptr<data::Tokenizer> tokenizer;
  dist::agree_on(group, [&] {
    agenda = make_agenda(cache, config);
    if (!agenda.prompts.empty())
      tokenizer = std::make_unique<data::Tokenizer>(open_tokenizer(config, cache));
  });
  SplitEmbedder embedder(model, cache, config, group, show_progress);
  const EmbeddingTable& scored = embedder.of(split);
  Json json{{"schema_version", 1}, {"split", split}, {"n", scored.indices.size()}};
  std::set<std::string> sites;
  for (const std::int64_t index : scored.indices)
    sites.insert(cache.entries().at(static_cast<std::size_t>(index)).site);
  json["sites"] = sites;
  json["findings"] = Json::object();
  for (std::size_t i = 0; i < agenda.prompts.size(); ++i) {
    const FindingScorer scorer(model, cache, config, *tokenizer, split);
    json["findings"][agenda.prompts[i].name] =
        scorer.score(agenda.prompts[i], agenda.columns[i], embedder);
  }
  json["not_scored"] = agenda.not_scored;
  json["not_labelled"] = agenda.not_labelled;
  json["retrieval"] = score_retrieval(scored.image, scored.text);
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
  if (!config.evaluate.prompts.empty())
    json["prompts_hash"] = hex64(hash_file(config.evaluate.prompts));
  return json;
}

}  // namespace triphase::trainer
