// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/run_figures.hpp"

#include "trainer/report/fields.hpp"

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

/// The step of the checkpoint that checkpoint.keep_best kept, found again from the validations.
Json best_step(const ReportRun& run) {
  const std::string& keep = run.config.checkpoint.keep_best;
  if (keep.empty()) return nullptr;
  const bool is_loss = keep.ends_with("loss") || keep.ends_with("median_rank");
  const std::string plain = keep.starts_with("validation_") ? keep.substr(11) : keep;
  const std::string key = plain == "auc" ? "mean_auc" : plain;
  Json best;
  for (const Json& record : run.records) {
    const auto value = number(member(record, "validation"), key.c_str());
    if (!value) continue;
    const bool is_better = best.is_null() || (is_loss ? *value < best["value"].get<double>()
                                                      : *value > best["value"].get<double>());
    if (is_better) best = Json{{"step", record.at("step")}, {"by", keep}, {"value", *value}};
  }
  return best;
}

Json training(const ReportRun& run, const Json& lines) {
  if (!run.is_trained()) return nullptr;
  Json json{{"loss", ends(lines.at("loss_smooth"))},
            {"temperature", ends(lines.at("temperature"))}};
  json["best"] = best_step(run);
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

/// As a temperature, whatever loss.temperature_init was given as.
Json temperature(const ReportRun& run, const Json& lines) {
  if (!run.is_trained()) return nullptr;
  const Json& logged = lines.at("temperature");
  return {{"initial", std::exp(-initial_log_scale(run.config.loss))},
          {"learnable", run.config.loss.temperature_learnable},
          {"final", logged.empty() ? Json() : logged.back()[1]}};
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

}  // namespace

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
  json["temperature"] = temperature(run, json["curves"]);
  json["cost"] = cost(run);
  json["evaluations"] = evaluations(run);
  json["environment"] = environment(run);
  return json;
}

}  // namespace triphase::trainer
