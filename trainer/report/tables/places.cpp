// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/tables.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace triphase::trainer {
namespace {

std::vector<DataColumn> auc_columns(std::vector<DataColumn> columns) {
  using enum Shown;
  columns.push_back({"n_positive", "positive", kCount});
  columns.push_back({"n_negative", "negative", kCount});
  add_score_columns(columns, "auc", "AUC");
  columns.push_back({"reason", "why there is none", kWrapped});
  return columns;
}

std::vector<Json> auc_values(const Json& scores) {
  const Json interval = member(scores, "auc_ci95");
  return {member(scores, "n_positive"), member(scores, "n_negative"), member(scores, "auc"),
          low_end(interval),            high_end(interval),           member(scores, "reason")};
}

/// Rows of by_site or by_subgroup of every main evaluation.
DataTable divided(const Json& figures, const char* name, const char* caption, const char* list,
                  std::vector<DataColumn> keys) {
  using enum Shown;
  std::vector<DataColumn> columns{{"run", "run"}, {"trained_on", "trained on"}};
  columns.insert(columns.end(), keys.begin(), keys.end());
  columns.insert(columns.end(), {{"finding", "finding"}, {"n", "studies", kCount}});
  DataTable table(name, caption, auc_columns(columns));
  for (const Json& run : figures.at("runs")) {
    const Json* evaluation = main_evaluation(run);
    if (evaluation == nullptr) continue;
    for (const Json& part : member(*evaluation, list)) {
      for (const auto& [finding, scores] : part.at("findings").items()) {
        std::vector<Json> row{run.at("name"), run.at("is_trained").get<bool>()
                                                  ? Json(sites_text(run.at("trained_on")))
                                                  : Json("nothing here")};
        for (const DataColumn& key : keys) row.push_back(member(part, key.key.c_str()));
        row.insert(row.end(), {finding, member(part, "n")});
        const std::vector<Json> values = auc_values(scores);
        row.insert(row.end(), values.begin(), values.end());
        table.add(std::move(row));
      }
    }
  }
  return table;
}

/// k of a pool drawn blindly.
Json chance(std::int64_t k, const Json& pool) {
  if (!pool.is_number() || pool.get<double>() < 1) return nullptr;
  return std::min(1.0, static_cast<double>(k) / pool.get<double>());
}

DataTable retrieval(const Json& figures) {
  using enum Shown;
  std::vector<DataColumn> columns{{"run", "run"},
                                  {"sites", "sites"},
                                  {"split", "split"},
                                  {"direction", "direction"},
                                  {"pool", "pool", kCount},
                                  {"num_pools", "pools", kCount},
                                  {"distinct_reports", "distinct reports", kCount}};
  constexpr std::array<std::int64_t, 4> kPlaces{1, 5, 10, 50};
  for (const std::int64_t k : kPlaces) {
    columns.push_back({str("recall_at_", k), str("recall@", k), kScore});
    columns.push_back({str("chance_at_", k), str("chance@", k), kScore});
  }
  columns.push_back({"median_rank", "median rank", kNumber});
  DataTable table("retrieval", "Finding a volume's report among others, and the reverse", columns);
  const auto add = [&](const Json& run, const Json& evaluation, const Json& pool,
                       const Json& num_pools, const Json& reports, const Json& held) {
    for (const char* direction : {"image_to_text", "text_to_image"}) {
      const Json values = member(held, direction);
      if (!values.is_object()) continue;
      std::vector<Json> row{
          run.at("name"), sites_text(evaluation), evaluation.at("split"),
          std::string(direction) == "image_to_text" ? "image to report" : "report to image",
          pool,           num_pools,              reports};
      for (const std::int64_t k : kPlaces) {
        const Json recall = member(values, str("recall_at_", k).c_str());
        row.insert(row.end(), {recall, recall.is_null() ? Json() : chance(k, pool)});
      }
      row.push_back(member(values, "median_rank"));
      table.add(std::move(row));
    }
  };
  for (const Json& run : figures.at("runs")) {
    for (const Json& evaluation : run.at("evaluations")) {
      const Json found = member(evaluation, "retrieval");
      add(run, evaluation, member(found, "n"), 1, member(found, "distinct_reports"), found);
      for (const Json& pool : member(found, "pools"))
        add(run, evaluation, member(pool, "size"), member(pool, "num_pools"), nullptr, pool);
    }
  }
  return table;
}

}  // namespace

std::vector<DataTable> place_tables(const Json& figures) {
  return {divided(figures, "sites", "AUC by the site that was tested", "by_site", {{"site", "site"}}),
          divided(figures, "subgroups", "AUC by subgroup", "by_subgroup",
                  {{"column", "column"}, {"value", "value"}}),
          retrieval(figures)};
}

}  // namespace triphase::trainer
