// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/figures.hpp"

#include "trainer/evaluate_cohort.hpp"
#include "trainer/report/headline.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace triphase::trainer {
namespace {

constexpr std::array<const char*, 6> kPhases{"data",     "forward",        "loss",
                                             "backward", "reduce_exposed", "optimizer"};

std::optional<double> number(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_number()) return {};
  const double value = object.at(key).get<double>();
  if (!std::isfinite(value)) return {};
  return value;
}

Json member(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object.at(key) : Json();
}

Json median(std::vector<double> values) {
  if (values.empty()) return nullptr;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// [[step, value], ...] of the records that have a finite `key`, in `part` when that is not empty.
Json curve(const std::vector<Json>& records, const std::string& part, const std::string& key) {
  Json points = Json::array();
  for (const Json& record : records) {
    const Json object = part.empty() ? record : member(record, part.c_str());
    if (const auto value = number(object, key.c_str()))
      points.push_back({record.at("step").get<std::int64_t>(), *value});
  }
  return points;
}

/// Exponential mean over about a twentieth of the run, corrected for its start (as Adam's moments
/// are).
Json smoothed(const Json& points) {
  const double window = std::max(1.0, static_cast<double>(points.size()) / 20);
  const double keep = 1 - 1 / window;
  double sum = 0;
  double weight = 0;
  Json result = Json::array();
  for (const Json& point : points) {
    sum = keep * sum + (1 - keep) * point[1].get<double>();
    weight = keep * weight + (1 - keep);
    result.push_back({point[0], sum / weight});
  }
  return result;
}

Json curves(const ReportRun& run) {
  Json json;
  json["loss"] = curve(run.records, "", "loss");
  json["loss_smooth"] = smoothed(json["loss"]);
  json["temperature"] = curve(run.records, "", "temperature");
  json["validation_loss"] = curve(run.records, "validation", "loss");
  json["validation_auc"] = Json::object();
  std::set<std::string> findings;
  for (const Json& record : run.records) {
    const Json validation = member(record, "validation");
    for (const auto& [key, value] : validation.items())
      if (key.ends_with("_auc") && key != "mean_auc") findings.insert(key);
  }
  for (const std::string& key : findings)
    json["validation_auc"][key.substr(0, key.size() - 4)] = curve(run.records, "validation", key);
  return json;
}

Json ends(const Json& points) {
  if (points.empty()) return nullptr;
  return {{"first", points.front()[1]}, {"last", points.back()[1]}};
}

Json training(const ReportRun& run, const Json& lines) {
  if (!run.is_trained()) return nullptr;
  Json json{{"loss", ends(lines.at("loss_smooth"))},
            {"temperature", ends(lines.at("temperature"))}};
  json["best_validation"] = nullptr;
  for (const Json& point : lines.at("validation_loss"))
    if (json["best_validation"].is_null() ||
        point[1].get<double>() < json["best_validation"]["loss"].get<double>())
      json["best_validation"] = Json{{"step", point[0]}, {"loss", point[1]}};
  json["skipped_steps"] = nullptr;
  for (const Json& record : run.records)
    if (record.contains("skipped_steps")) json["skipped_steps"] = record["skipped_steps"];
  return json;
}

Json cost(const ReportRun& run) {
  if (!run.is_trained()) return nullptr;
  std::map<std::string, std::vector<double>> phases;
  std::vector<double> totals;
  std::vector<double> bytes;
  std::vector<double> rates;
  std::int64_t pairs_seen = 0;
  for (const Json& record : run.records) {
    if (const auto value = number(record, "bytes_reduced")) bytes.push_back(*value);
    if (const auto value = number(record, "pairs_per_second")) rates.push_back(*value);
    if (const auto value = number(record, "pairs_seen"))
      pairs_seen = std::max(pairs_seen, static_cast<std::int64_t>(*value));
    const Json seconds = member(record, "seconds");
    if (!seconds.is_object()) continue;
    double total = 0;
    for (const char* phase : kPhases) {
      const double value = number(seconds, phase).value_or(0);
      phases[phase].push_back(value);
      total += value;
    }
    totals.push_back(total);
  }
  Json json{{"steps", run.records.back().at("step")},
            {"pairs_seen", pairs_seen},
            {"seconds_per_step", median(totals)},
            {"pairs_per_second", median(rates)},
            {"bytes_reduced_per_step", median(bytes)}};
  if (json["bytes_reduced_per_step"].is_number())
    json["bytes_reduced_per_step"] =
        static_cast<std::int64_t>(json["bytes_reduced_per_step"].get<double>());
  json["seconds"] = Json::object();
  for (const char* phase : kPhases)
    if (phases.contains(phase)) json["seconds"][phase] = median(phases.at(phase));
  return json;
}

Json trainable(const ReportRun& run) {
  const Json model = member(run.environment, "model");
  if (!run.is_trained() || !number(model, "num_trainable")) return nullptr;
  Json json;
  json["num_trainable"] = model["num_trainable"];
  json["num_base_parameters"] = member(model, "num_base_parameters");
  json["percent"] = member(model, "trainable_percent");
  json["percent_of"] = member(model, "trainable_percent_of");
  return json;
}

Json environment(const ReportRun& run) {
  Json json;
  Json versions = member(run.environment, "versions");
  const Json* evaluation = run.evaluations.empty() ? nullptr : &run.evaluations.front();
  if (versions.is_null() && evaluation != nullptr) versions = member(*evaluation, "versions");
  json["versions"] = versions;
  json["num_ranks"] = member(run.environment, "num_ranks");
  if (json["num_ranks"].is_null() && evaluation != nullptr)
    json["num_ranks"] = member(*evaluation, "num_ranks");
  json["threads_per_rank"] = member(run.environment, "threads_per_rank");
  json["backend"] = member(run.environment, "backend");
  Json hash = member(member(run.environment, "data"), "data_hash");
  if (hash.is_null() && evaluation != nullptr) hash = member(*evaluation, "data_hash");
  json["data_hash"] = hash;
  return json;
}

/// The first is the one that the page is about; it is the run's own test split where there is one.
Json evaluations(const ReportRun& run) {
  std::vector<Json> ordered = run.evaluations;
  std::stable_partition(ordered.begin(), ordered.end(), [&](const Json& each) {
    return each.at("split") == run.config.data.test_split;
  });
  Json result = Json::array();
  for (Json& each : ordered) {
    each.erase("cohort");  // stands once, in `cohorts`
    result.push_back(std::move(each));
  }
  return result;
}

std::string method(const ReportRun& run) {
  if (run.is_trained()) return run.config.adapt.method;
  for (const Json& evaluation : run.evaluations) {
    const Json given = member(member(evaluation, "model"), "adapt_method");
    if (given.is_string()) return given.get<std::string>();
  }
  return "none";
}

Json run_figures(const ReportRun& run) {
  Json json{{"name", run.name},
            {"method", method(run)},
            {"is_trained", run.is_trained()},
            {"preset", run.config.model.preset},
            {"weights", run.config.model.weights},
            {"seed", run.config.run.seed},
            {"global_pairs", run.config.batch.global_pairs}};
  json["trained_on"] = {{"sites", run.config.data.sites}};
  json["trainable"] = trainable(run);
  json["curves"] = curves(run);
  json["training"] = training(run, json["curves"]);
  json["cost"] = cost(run);
  json["evaluations"] = evaluations(run);
  json["environment"] = environment(run);
  return json;
}

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

/// Keys on which the runs differ, with each run's value; null where a run lacks the key.
Json differing_settings(const std::vector<ReportRun>& runs) {
  std::vector<std::string> keys;
  std::vector<std::map<std::string, std::string>> values;
  for (const ReportRun& run : runs) {
    values.emplace_back(run.settings.begin(), run.settings.end());
    for (const auto& [key, value] : run.settings)
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  }
  Json result = Json::array();
  for (const std::string& key : keys) {
    if (key == "run.name" || key == "run.output_dir") continue;
    Json row = Json::array();
    for (const auto& each : values) row.push_back(each.contains(key) ? Json(each.at(key)) : Json());
    if (std::any_of(row.begin(), row.end(), [&](const Json& value) { return value != row[0]; }))
      result.push_back({{"key", key}, {"values", row}});
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
  Json json{{"schema_version", 1}, {"title", "Triphase report"}, {"headline", ""}};
  Json counted = cohorts(runs, phantom);
  json["phantom"] = phantom;
  json["finding"] = main_finding(runs);
  json["runs"] = Json::array();
  for (const ReportRun& run : runs) json["runs"].push_back(run_figures(run));
  json["cohorts"] = std::move(counted);
  json["settings"] = differing_settings(runs);
  json["headline"] = report_headline(json);
  return json;
}

}  // namespace triphase::trainer
