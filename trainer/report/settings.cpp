// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/settings.hpp"

#include "base/error.hpp"
#include "trainer/report/fields.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace triphase::trainer {
namespace {

using Settings = std::map<std::string, std::string>;

const Settings& default_settings() {
  static const Settings settings = [] {
    const auto flat = flat_settings(load_run_config({}).resolved_toml);
    return Settings(flat.begin(), flat.end());
  }();
  return settings;
}

/// One row of values, null where a run has none.
Json values_of(const std::string& key, const std::vector<Settings>& runs) {
  Json row = Json::array();
  for (const Settings& run : runs) row.push_back(run.contains(key) ? Json(run.at(key)) : Json());
  return row;
}

/// Whether the row tells more than that some runs come from a version without the setting.
bool tells_apart(const std::string& key, const Json& row) {
  const auto standard = default_settings().find(key);
  Json first;
  bool is_missing = false;
  for (const Json& value : row) {
    if (value.is_null()) {
      is_missing = true;
      continue;
    }
    if (first.is_null()) first = value;
    if (value != first) return true;
  }
  return is_missing && (standard == default_settings().end() || first != standard->second);
}

std::vector<std::string> absent(const Json& object, std::initializer_list<const char*> keys,
                                const std::string& before = "") {
  std::vector<std::string> fields;
  for (const char* key : keys)
    if (!object.is_object() || !object.contains(key)) fields.push_back(before + key);
  return fields;
}

void append(std::vector<std::string>& fields, const std::vector<std::string>& more) {
  for (const std::string& field : more)
    if (std::find(fields.begin(), fields.end(), field) == fields.end()) fields.push_back(field);
}

std::vector<std::string> absent_scores(const Json& scores, const std::string& before) {
  return absent(scores,
                {"auc", "auc_ci95", "auc_delong_ci95", "f1", "f1_ci95", "sensitivity",
                 "sensitivity_ci95", "specificity", "specificity_ci95", "average_precision",
                 "average_precision_ci95", "ppv", "npv", "balanced_accuracy", "calibration", "roc",
                 "precision_recall"},
                before);
}

std::vector<std::string> absent_of_evaluation(const Json& evaluation) {
  std::vector<std::string> fields =
      absent(evaluation, {"by_site", "by_subgroup", "retrieval", "cohort", "data_hash", "phantom"});
  for (const auto& [finding, scores] : evaluation.at("findings").items()) {
    append(fields, absent_scores(scores, ""));
    append(fields, absent(scores, {"linear_probe", "report_probe"}));
    for (const char* probe : {"linear_probe", "report_probe"})
      if (member(scores, probe).is_object())
        append(fields, absent_scores(scores.at(probe), std::string(probe) + "."));
    if (member(scores, "linear_probe").is_object())
      append(fields, absent(scores.at("linear_probe"), {"k_shot"}, "linear_probe."));
  }
  const Json retrieval = member(evaluation, "retrieval");
  if (!retrieval.is_object()) return fields;
  append(fields, absent(retrieval, {"image_to_text", "text_to_image", "pools"}, "retrieval."));
  append(fields, absent(member(retrieval, "image_to_text"), {"recall_at_50"},
                        "retrieval.image_to_text."));
  return fields;
}

std::vector<std::string> absent_settings(const ReportRun& run) {
  const Settings own(run.settings.begin(), run.settings.end());
  std::vector<std::string> fields;
  for (const auto& [key, value] : default_settings())
    if (!own.contains(key)) fields.push_back(key);
  return fields;
}

}  // namespace

Json differing_run_settings(const std::vector<ReportRun>& runs) {
  std::vector<std::string> keys;
  std::vector<Settings> settings;
  for (const ReportRun& run : runs) {
    settings.emplace_back(run.settings.begin(), run.settings.end());
    for (const auto& [key, value] : run.settings)
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  }
  Json result = Json::array();
  for (const std::string& key : keys) {
    if (key == "run.name" || key == "run.output_dir") continue;
    Json row = values_of(key, settings);
    if (tells_apart(key, row)) result.push_back({{"key", key}, {"values", std::move(row)}});
  }
  return result;
}

Json missing_fields(const std::vector<ReportRun>& runs) {
  Json result = Json::array();
  const auto add = [&](const ReportRun& run, const std::string& file,
                       const std::vector<std::string>& fields, const std::string& why) {
    if (!fields.empty())
      result.push_back({{"run", run.name}, {"file", file}, {"fields", fields}, {"why", why}});
  };
  for (const ReportRun& run : runs) {
    for (const Json& evaluation : run.evaluations) {
      const std::string file = "evaluation of split " + evaluation.at("split").get<std::string>();
      add(run, file, absent_of_evaluation(evaluation),
          "not there; evaluate the run again to have them");
    }
    if (run.is_trained() && run.environment.is_null())
      add(run, "environment.json", {"all of it"}, "the file is not there");
    else if (run.is_trained())
      add(run, "environment.json", absent(run.environment, {"versions", "num_ranks", "model", "data"}),
          "not there");
    // Where most of the settings lack, a person wrote the file; a program's lacks a few.
    const std::vector<std::string> settings = absent_settings(run);
    if (settings.size() * 2 < default_settings().size())
      add(run, "configuration", settings, "another version's file; this version's default is taken");
    add(run, "configuration", run.unknown_settings, "settings that this version does not know");
  }
  return result;
}

}  // namespace triphase::trainer
