// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "data/cache.hpp"
#include "data/manifest.hpp"
#include "trainer/evaluate_finding.hpp"

#include <map>
#include <string>
#include <vector>

namespace triphase::trainer {

/// The group of each sample, by its index in the cache.
using SampleGroups = std::map<std::int64_t, std::string>;

[[nodiscard]] SampleGroups groups_by_site(const data::Cache& cache, const std::vector<std::int64_t>& indices);

/// By a column of the manifest, joined by id: one of its own, "site", or "label:<finding>" ("1", "0", "unknown").
/// An empty field is "(none)".
/// @throws ConfigError for a column that is not there or has more than 50 values; DataError for a sample that
/// the manifest lacks
[[nodiscard]] SampleGroups groups_by_column(const data::Manifest& manifest, const std::string& column,
                                            const data::Cache& cache, const std::vector<std::int64_t>& indices);

/// The AUC of every finding's scores in every group: an array of {<group_key>: name, n, findings: {hcc: {auc,
/// auc_ci95, n_positive, n_negative, reason?}}} by name. n counts samples of unknown label too.
/// @param findings by name; rows carry indices
[[nodiscard]] Json score_groups(const std::string& group_key, const SampleGroups& groups,
                                const std::map<std::string, ScoredSplit>& findings, const ScoringOptions& options);

}  // namespace triphase::trainer
