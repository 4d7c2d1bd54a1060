// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/figures.hpp"

#include "trainer/evaluate_cohort.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/paired.hpp"
#include "trainer/report/run_figures.hpp"
#include "trainer/report/series.hpp"
#include "trainer/report/settings.hpp"
#include "trainer/report/tables.hpp"

#include <algorithm>
#include <map>

namespace triphase::trainer {
namespace {

/// From an evaluation, or else from the cache itself where it still lies.
Json cohorts(const std::vector<ReportRun>& runs, bool& phantom) {
  Json result = Json::array();
  const auto add = [&](const Json& hash, const Json& rows, const std::string& name) {
    for (Json& known : result)
      if (known["data_hash"] == hash) {
        if (std::find(known["runs"].begin(), known["runs"].end(), name) == known["runs"].end())
          known["runs"].push_back(name);
        return;
      }
    result.push_back({{"data_hash", hash}, {"runs", {name}}, {"rows", rows}});
  };
  for (const ReportRun& run : runs) {
    bool is_known = false;
    for (const Json& evaluation : run.evaluations) {
      phantom = phantom || member(evaluation, "phantom") == Json(true);
      if (!member(evaluation, "cohort").is_array()) continue;
      add(member(evaluation, "data_hash"), evaluation.at("cohort"), run.name);
      is_known = true;
    }
    const std::filesystem::path cache_folder = run.config.data.cache;
    if (is_known || !std::filesystem::exists(cache_folder / "cache.json")) continue;
    const data::Cache cache(cache_folder);
    phantom = phantom || is_phantom(run.config, cache);
    add(cache.data_hash(), cohort_counts(cache), run.name);
  }
  return result;
}

/// "hcc" when it was scored, else the finding that most evaluations have first.
Json main_finding(const std::vector<ReportRun>& runs) {
  Json finding;
  for (const ReportRun& run : runs)
    for (const Json& evaluation : run.evaluations)
      for (const auto& [name, scores] : evaluation.at("findings").items())
        if (finding.is_null() || name == "hcc") finding = name;
  return finding;
}

/// Runs of one name (of two studies, say) are told apart by their folders' place in the list.
void make_names_unique(std::vector<ReportRun>& runs) {
  std::map<std::string, int> seen;
  for (ReportRun& run : runs) {
    const int count = ++seen[run.name];
    if (count > 1) run.name += str(" (", count, ")");
  }
}

}  // namespace

Json report_figures(const std::vector<ReportRun>& given) {
  std::vector<ReportRun> runs = given;
  make_names_unique(runs);
  bool phantom = false;
  Json json{{"schema_version", 2}, {"title", "Triphase report"}, {"headline", ""}};
  Json counted = cohorts(runs, phantom);
  json["phantom"] = phantom;
  json["finding"] = main_finding(runs);
  json["runs"] = Json::array();
  for (const ReportRun& run : runs) json["runs"].push_back(run_figures(run));
  add_series(runs, json);
  json["cohorts"] = std::move(counted);
  json["settings"] = differing_run_settings(runs);
  json["missing"] = missing_fields(runs);
  json["differences"] = paired_differences(runs, json);
  json["headline"] = report_headline(json);
  json["tables"] = report_tables(json);
  return json;
}

}  // namespace triphase::trainer
