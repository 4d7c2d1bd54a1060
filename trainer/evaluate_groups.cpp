// SPDX-License-Identifier: Apache-2.0
#include "trainer/evaluate_groups.hpp"

#include "base/error.hpp"
#include "trainer/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxValues = 50;

ScoredSplit rows_of(const ScoredSplit& all, const SampleGroups& groups, const std::string& name) {
  ScoredSplit rows;
  rows.split = all.split;
  for (std::size_t i = 0; i < all.indices.size(); ++i) {
    if (groups.at(all.indices[i]) != name) continue;
    rows.scores.push_back(all.scores[i]);
    rows.labels.push_back(all.labels[i]);
    rows.patient_ids.push_back(all.patient_ids[i]);
  }
  return rows;
}

Json score_group(const ScoredSplit& rows, const std::string& name, const ScoringOptions& options) {
  const auto positive = std::count(rows.labels.begin(), rows.labels.end(), std::int8_t{1});
  Json json{{"auc", nullptr},
            {"auc_ci95", nullptr},
            {"n_positive", positive},
            {"n_negative", static_cast<std::int64_t>(rows.labels.size()) - positive}};
  if (!has_both_classes(rows)) {
    json["reason"] = str("of '", name, "', ", why_not(rows));
    return json;
  }
  json["auc"] = roc_auc(rows.scores, rows.labels);
  if (options.bootstrap_samples == 0) return json;
  const auto interval = bootstrap_by_patient(rows.scores, rows.labels, rows.patient_ids, /*threshold=*/0,
                                             options.bootstrap_samples, options.seed)
                            .auc;
  if (!std::isnan(interval[0])) json["auc_ci95"] = Json{interval[0], interval[1]};
  return json;
}

/// The value of `column` in a record; nullptr when there is no such column.
using Lookup = std::string (*)(const data::StudyRecord&, std::size_t, const std::string&);

std::string label_word(const data::StudyRecord& record, std::size_t finding, const std::string&) {
  const std::int8_t label = record.labels.at(finding);
  return label < 0 ? "unknown" : std::to_string(label);
}
std::string site_word(const data::StudyRecord& record, std::size_t, const std::string&) { return record.site; }
std::string metadata_word(const data::StudyRecord& record, std::size_t, const std::string& column) {
  const std::string& word = record.metadata.at(column);
  return word.empty() ? "(none)" : word;
}

Lookup find_column(const data::Manifest& manifest, const std::string& column, std::size_t& finding) {
  if (column == "site") return site_word;
  std::string columns = "'site'";
  for (std::size_t i = 0; i < manifest.findings.size(); ++i) {
    if (column == "label:" + manifest.findings[i]) {
      finding = i;
      return label_word;
    }
    columns += ", 'label:" + manifest.findings[i] + "'";
  }
  if (!manifest.records.empty()) {
    for (const auto& [name, value] : manifest.records.front().metadata) {
      if (name == column) return metadata_word;
      columns += ", '" + name + "'";
    }
  }
  throw ConfigError(str("evaluate.subgroups: manifest '", manifest.path.string(), "' has no column '", column,
                        "' to group by. It has ", columns, "."));
}

}  // namespace

SampleGroups groups_by_site(const data::Cache& cache, const std::vector<std::int64_t>& indices) {
  SampleGroups groups;
  for (const std::int64_t index : indices) groups[index] = cache.entries().at(static_cast<std::size_t>(index)).site;
  return groups;
}

SampleGroups groups_by_column(const data::Manifest& manifest, const std::string& column, const data::Cache& cache,
                              const std::vector<std::int64_t>& indices) {
  std::size_t finding = 0;
  const Lookup word = find_column(manifest, column, finding);
  std::map<std::string, const data::StudyRecord*> records;
  for (const data::StudyRecord& record : manifest.records) records[record.id] = &record;
  SampleGroups groups;
  std::set<std::string> values;
  for (const std::int64_t index : indices) {
    const std::string& id = cache.entries().at(static_cast<std::size_t>(index)).id;
    const auto found = records.find(id);
    TRIPHASE_CHECK(DataError, found != records.end(), "manifest '", manifest.path.string(), "' lacks sample '", id,
                   "' of cache '", cache.folder().string(),
                   "', so its subgroup is not known. Set evaluate.manifest to the one that the cache was built from.");
    values.insert(groups[index] = word(*found->second, finding, column));
  }
  TRIPHASE_CHECK(ConfigError, values.size() <= kMaxValues, "evaluate.subgroups: column '", column, "' of '",
                 manifest.path.string(), "' has ", values.size(), " values; a table of at most ", kMaxValues,
                 " groups is made. Add a column with classes, such as ages by decade, and name that.");
  return groups;
}

Json score_groups(const std::string& group_key, const SampleGroups& groups,
                  const std::map<std::string, ScoredSplit>& findings, const ScoringOptions& options) {
  std::map<std::string, std::int64_t> sizes;
  for (const auto& [index, name] : groups) ++sizes[name];
  Json table = Json::array();
  for (const auto& [name, n] : sizes) {
    Json row{{group_key, name}, {"n", n}, {"findings", Json::object()}};
    for (const auto& [finding, scored] : findings)
      row["findings"][finding] = score_group(rows_of(scored, groups, name), name, options);
    table.push_back(std::move(row));
  }
  return table;
}

}  // namespace triphase::trainer
