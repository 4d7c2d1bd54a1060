// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/validation.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.hpp"
#include "dist/runtime.hpp"
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

double finding_auc(models::TwoTower& model, const EmbeddingTable& table,
                   const FindingPrompts& prompts, const data::Cache& cache,
                   const RunConfig& config) {
  const std::vector<double> scores =
      prompt_scores(model, table, prompts, config, config.model.tokenizer);
  const std::vector<std::string>& findings = cache.findings();
  const auto column = static_cast<std::size_t>(
      std::find(findings.begin(), findings.end(), prompts.name) - findings.begin());
  std::vector<double> known_scores;
  std::vector<std::int8_t> labels;
  for (std::size_t i = 0; i < table.indices.size(); ++i) {
    const std::int8_t label =
        cache.entries()[static_cast<std::size_t>(table.indices[i])].labels[column];
    if (label < 0) continue;
    known_scores.push_back(scores[i]);
    labels.push_back(label);
  }
  return roc_auc(known_scores, labels);
}

/// Rank 0's numbers on every rank: whether a run goes on depends on them.
void share(ValidationReport& report, dist::ProcessGroup& group) {
  at::Tensor values = at::empty({static_cast<std::int64_t>(report.auc.size()) + 1}, at::kDouble);
  double* numbers = values.mutable_data_ptr<double>();
  numbers[0] = report.loss;
  for (std::size_t i = 0; i < report.auc.size(); ++i) numbers[i + 1] = report.auc[i].second;
  values = group.broadcast(values, 0)->wait();
  numbers = values.mutable_data_ptr<double>();
  report.loss = numbers[0];
  for (std::size_t i = 0; i < report.auc.size(); ++i) report.auc[i].second = numbers[i + 1];
}

}  // namespace

Json ValidationReport::json() const {
  Json json{{"loss", loss}};
  if (!auc.empty()) json["mean_auc"] = mean_auc;
  for (const auto& [finding, value] : auc) json[finding + "_auc"] = value;
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

ValidationReport validate(models::TwoTower& model, const TrainData& data,
                          const std::vector<FindingPrompts>& prompts, const RunConfig& config,
                          dist::ProcessGroup& group) {
  const EmbeddingTable table =
      embed_samples(model, *data.cache, data.validation, config, group, /*show_progress=*/false);
  ValidationReport report;
  for (const FindingPrompts& each : prompts) report.auc.emplace_back(each.name, kNan);
  dist::agree_on(group, [&] {
    report.loss = validation_loss(model, table, data, config);
    for (std::size_t i = 0; i < prompts.size(); ++i)
      report.auc[i].second = finding_auc(model, table, prompts[i], *data.cache, config);
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
