// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "dist/process_group.hpp"
#include "models/two_tower.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/loop/train_data.hpp"

namespace triphase::trainer {

/// The validation split's scores; the same bits on every rank.
struct ValidationReport {
  double loss = 0;      ///< the run's, mean over fixed batches of min(global_pairs, samples) pairs;
                        ///< "local" negatives are those of the whole batch here
  double mean_auc = 0;  ///< over the findings below; NaN when there is none
  std::vector<std::pair<std::string, double>>
      auc;  ///< prompt AUC by finding; NaN when a class is absent
  std::vector<std::pair<std::string, double>> average_precision;  ///< likewise
  /// Of retrieval among all of the split, both directions' mean: recall_at_1, recall_at_5, recall_at_10, median_rank.
  std::vector<std::pair<std::string, double>> retrieval;
  /// {"loss": .., "mean_auc": .., "hcc_auc": .., "hcc_average_precision": .., "recall_at_1": ..}; null for NaN.
  [[nodiscard]] Json json() const;
};

/// What checkpoint.keep_best names: "validation_auc" is mean_auc, "validation_x" json()'s x.
[[nodiscard]] double validation_metric(const ValidationReport& report, const std::string& keep_best);
/// Of loss and median_rank.
[[nodiscard]] bool is_lower_better(const std::string& keep_best);

/// Before a run starts. @throws ConfigError when keep_best is no number of the validation, naming those there are;
/// DataError when it is of findings and the validation split lacks a class of it (of all, for their mean)
void check_keep_best(const std::string& keep_best, const std::vector<FindingPrompts>& prompts,
                     const data::Cache& cache, const std::vector<std::int64_t>& validation);

/// The prompts of a run that stand for a finding of the cache. Empty without evaluate.prompts or
/// tokenizer.
/// @throws DataError when prompts are given and none of them has a label column
[[nodiscard]] std::vector<FindingPrompts> validation_prompts(const RunConfig& config,
                                                             const data::Cache& cache);

/// Scores the model as it is. Batches are drawn once per run (keyed by the seed), the tail that
/// fills no batch is left out. Collective over group.
[[nodiscard]] ValidationReport validate(models::TwoTower& model, const TrainData& data,
                                        const std::vector<FindingPrompts>& prompts,
                                        const RunConfig& config, dist::ProcessGroup& group);

}  // namespace triphase::trainer
