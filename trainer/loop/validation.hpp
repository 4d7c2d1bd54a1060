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
  /// {"loss": .., "mean_auc": .., "hcc_auc": ..}; null for NaN.
  [[nodiscard]] Json json() const;
};

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
