// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/validation.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/random.hpp"
#include "dist/runtime.hpp"
#include "trainer/evaluate_retrieval.hpp"
#include "trainer/loop/contrast.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// [N] the ids of a table's samples; undefined when nobody has one.
at::Tensor ids_of(const EmbeddingTable& table, const std::vector<std::int64_t>& ids) {
  if (ids.empty()) return {};
  std::vector<std::int64_t> picked;
  for (const std::int64_t index : table.indices)
    picked.push_back(ids[static_cast<std::size_t>(index)]);
  return at::tensor(picked, at::kLong);
}

double validation_loss(models::TwoTower& model, const EmbeddingTable& table, const TrainData& data,
                       const RunConfig& config) {
  const at::NoGradGuard no_grad;
  const std::int64_t num_samples = table.image.size(0);
  const std::int64_t pairs = std::min(config.batch.global_pairs, num_samples);
  const std::vector<std::int64_t> order = keyed_permutation(
      num_samples,
      KeyedRandom{static_cast<std::uint64_t>(config.run.seed), /*what for: validation*/ 0x7a1});
  const std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  const at::Tensor positive = ids_of(table, data.positive_ids);
  const at::Tensor negative = ids_of(table, data.negative_ids);
  const auto pick = [](const at::Tensor& all, const at::Tensor& rows) {
    return all.defined() ? all.index_select(0, rows) : all;
  };
  double sum = 0;
  std::int64_t num_batches = 0;
  for (std::int64_t first = 0; first + pairs <= num_samples; first += pairs, ++num_batches) {
    const at::Tensor rows =
        at::tensor(at::ArrayRef<std::int64_t>(order).slice(static_cast<std::size_t>(first),
                                                           static_cast<std::size_t>(pairs)),
                   at::kLong);
    sum += contrast(model, pick(table.image, rows), pick(table.text, rows),
                    {.positive = pick(positive, rows), .negative = pick(negative, rows)},
                    config.loss, *self)
               .item<double>();
  }
  return sum / static_cast<double>(num_batches);
}

std::size_t label_column(const data::Cache& cache, const std::string& finding) {
  const std::vector<std::string>& findings = cache.findings();
  return static_cast<std::size_t>(std::find(findings.begin(), findings.end(), finding) - findings.begin());
}

struct FindingScores {
  std::vector<double> scores;
  std::vector<std::int8_t> labels;
};

FindingScores score_validation(models::TwoTower& model, const EmbeddingTable& table, const FindingPrompts& prompts,
                               const data::Cache& cache, const RunConfig& config) {
  const std::vector<double> scores = prompt_scores(model, table, prompts, config, config.model.tokenizer);
  const std::size_t column = label_column(cache, prompts.name);
  FindingScores known;
  for (std::size_t i = 0; i < table.indices.size(); ++i) {
    const std::int8_t label = cache.entries()[static_cast<std::size_t>(table.indices[i])].labels[column];
    if (label < 0) continue;
    known.scores.push_back(scores[i]);
    known.labels.push_back(label);
  }
  return known;
}

bool has_class(const std::vector<std::int8_t>& labels, std::int8_t which) {
  return std::find(labels.begin(), labels.end(), which) != labels.end();
}

constexpr std::array<const char*, 4> kRetrieval{"recall_at_1", "recall_at_5", "recall_at_10", "median_rank"};

/// Every number of a report, in one order.
std::vector<double*> numbers_of(ValidationReport& report) {
  std::vector<double*> numbers{&report.loss};
  for (auto* list : {&report.auc, &report.average_precision, &report.retrieval})
    for (auto& [name, value] : *list) numbers.push_back(&value);
  return numbers;
}

/// Rank 0's numbers on every rank: whether a run goes on depends on them.
void share(ValidationReport& report, dist::ProcessGroup& group) {
  const std::vector<double*> numbers = numbers_of(report);
  at::Tensor values = at::empty({static_cast<std::int64_t>(numbers.size())}, at::kDouble);
  for (std::size_t i = 0; i < numbers.size(); ++i) values.mutable_data_ptr<double>()[i] = *numbers[i];
  values = group.broadcast(values, 0)->wait();
  for (std::size_t i = 0; i < numbers.size(); ++i) *numbers[i] = values.const_data_ptr<double>()[i];
}

/// "validation_auc" to "mean_auc", "validation_x" to "x".
std::string field_of(const std::string& keep_best) {
  const std::string field = keep_best.substr(std::string("validation_").size());
  return field == "auc" ? "mean_auc" : field;
}

}  // namespace

Json ValidationReport::json() const {
  Json json{{"loss", loss}};
  if (!auc.empty()) json["mean_auc"] = mean_auc;
  for (const auto& [finding, value] : auc) json[finding + "_auc"] = value;
  for (const auto& [finding, value] : average_precision) json[finding + "_average_precision"] = value;
  for (const auto& [name, value] : retrieval) json[name] = value;
  return json;
}

std::vector<FindingPrompts> validation_prompts(const RunConfig& config, const data::Cache& cache) {
  if (config.evaluate.prompts.empty() || config.model.tokenizer.empty()) return {};
  std::vector<FindingPrompts> prompts = read_prompts(config.evaluate.prompts);
  const std::vector<std::string>& findings = cache.findings();
  std::erase_if(prompts, [&](const FindingPrompts& each) {
    return std::find(findings.begin(), findings.end(), each.name) == findings.end();
  });
  TRIPHASE_CHECK(DataError, !prompts.empty() || findings.empty(), "no finding of '",
                 config.evaluate.prompts, "' has a label column in cache '",
                 cache.folder().string(), "', whose first is '", findings.front(),
                 "'. Name the findings as the label columns, or leave evaluate.prompts out.");
  return prompts;
}

double validation_metric(const ValidationReport& report, const std::string& keep_best) {
  return report.json().at(field_of(keep_best)).get<double>();
}

bool is_lower_better(const std::string& keep_best) {
  return keep_best == "validation_loss" || keep_best == "validation_median_rank";
}

void check_keep_best(const std::string& keep_best, const std::vector<FindingPrompts>& prompts,
                     const data::Cache& cache, const std::vector<std::int64_t>& validation) {
  if (keep_best.empty() || keep_best == "validation_loss") return;
  std::string names = "'validation_loss'";
  for (const char* name : kRetrieval) names += str(", 'validation_", name, "'");
  if (!prompts.empty()) names += ", 'validation_auc'";
  const std::string field = field_of(keep_best);
  bool is_known = std::find(kRetrieval.begin(), kRetrieval.end(), field) != kRetrieval.end();
  bool is_of_findings = field == "mean_auc" && !prompts.empty();
  bool has_both = false;
  for (const FindingPrompts& each : prompts) {
    names += str(", 'validation_", each.name, "_auc', 'validation_", each.name, "_average_precision'");
    const bool is_named = field == each.name + "_auc" || field == each.name + "_average_precision";
    if (!is_named && field != "mean_auc") continue;
    is_of_findings = true;
    std::vector<std::int8_t> labels;
    for (const std::int64_t index : validation)
      labels.push_back(cache.entries()[static_cast<std::size_t>(index)].labels[label_column(cache, each.name)]);
    has_both = has_both || (has_class(labels, 1) && has_class(labels, 0));
  }
  TRIPHASE_CHECK(ConfigError, is_known || is_of_findings, "checkpoint.keep_best is '", keep_best,
                 "', which this run's validation does not give. It gives ", names,
                 "; those of findings need prompts and a label column.");
  TRIPHASE_CHECK(DataError, is_known || has_both, "checkpoint.keep_best is '", keep_best,
                 "', and no sample of the validation split is positive, or none negative, so it cannot be had. Set it "
                 "to 'validation_loss', or choose data.validation_split and data.sites with both.");
}

ValidationReport validate(models::TwoTower& model, const TrainData& data,
                          const std::vector<FindingPrompts>& prompts, const RunConfig& config,
                          dist::ProcessGroup& group) {
  const EmbeddingTable table =
      embed_samples(model, *data.cache, data.validation, config, group, /*show_progress=*/false);
  ValidationReport report;
  for (const FindingPrompts& each : prompts) {
    report.auc.emplace_back(each.name, kNan);
    report.average_precision.emplace_back(each.name, kNan);
  }
  for (const char* name : kRetrieval) report.retrieval.emplace_back(name, kNan);
  dist::agree_on(group, [&] {
    report.loss = validation_loss(model, table, data, config);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const FindingScores known = score_validation(model, table, prompts[i], *data.cache, config);
      report.auc[i].second = roc_auc(known.scores, known.labels);
      report.average_precision[i].second = average_precision(known.scores, known.labels);
    }
    const Json retrieval = score_retrieval(table.image, table.text);
    for (auto& [name, value] : report.retrieval)
      value = (retrieval.at("image_to_text").at(name).get<double>() +
               retrieval.at("text_to_image").at(name).get<double>()) /
              2;
  });
  share(report, group);
  double sum = 0;
  std::int64_t count = 0;
  for (const auto& [finding, value] : report.auc) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  report.mean_auc = count > 0 ? sum / static_cast<double>(count) : kNan;
  return report;
}

}  // namespace triphase::trainer
