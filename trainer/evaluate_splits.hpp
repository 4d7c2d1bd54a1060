// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer/evaluate.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace triphase::trainer {

/// Embeds each split of given sites once, however often it is asked for.
class SplitEmbedder {
 public:
  SplitEmbedder(models::TwoTower& model, const data::Cache& cache, const RunConfig& config,
                dist::ProcessGroup& group, bool show_progress)
      : model_(model), cache_(cache), config_(config), group_(group), progress_(show_progress) {}

  /// @param sites empty: all. @throws DataError when there is no such sample. Collective over the group.
  const EmbeddingTable& of(const std::string& split, const std::vector<std::string>& sites);

 private:
  models::TwoTower& model_;
  const data::Cache& cache_;
  const RunConfig& config_;
  dist::ProcessGroup& group_;
  bool progress_;
  std::map<std::pair<std::string, std::vector<std::string>>, EmbeddingTable> tables_;
};

/// Sites whose samples are scored (empty: all), from evaluate.sites and data.sites.
[[nodiscard]] std::vector<std::string> scored_sites(const RunConfig& config);

}  // namespace triphase::trainer
