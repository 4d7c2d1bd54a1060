// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/tables.hpp"

#include <map>
#include <set>

namespace triphase::trainer {
namespace {

std::string joined(const Json& words) {
  std::string text;
  for (const Json& word : words)
    if (word.is_string()) text += (text.empty() ? "" : ", ") + word.get<std::string>();
  return text;
}

DataTable cohort(const Json& figures) {
  using enum Shown;
  DataTable table("cohort", "Studies of each cache by site and split; prevalence among known labels",
                  {{"data_hash", "data hash"},
                   {"site", "site"},
                   {"split", "split"},
                   {"n", "studies", kCount},
                   {"patients", "patients", kCount},
                   {"finding", "finding"},
                   {"positive", "positive", kCount},
                   {"negative", "negative", kCount},
                   {"unknown", "unknown", kCount},
                   {"prevalence_percent", "prevalence", kPercent}});
  for (const Json& each : figures.at("cohorts")) {
    for (const Json& row : each.at("rows")) {
      std::vector<Json> start{each.at("data_hash"), row.at("site"), row.at("split"), row.at("n"),
                              row.at("patients")};
      if (row.at("findings").empty()) {
        start.insert(start.end(), {nullptr, nullptr, nullptr, nullptr, nullptr});
        table.add(start);
      }
      for (const auto& [finding, counts] : row.at("findings").items()) {
        std::vector<Json> line = start;
        const auto positive = number(counts, "positive").value_or(0);
        const double known = positive + number(counts, "negative").value_or(0);
        line.insert(line.end(),
                    {finding, member(counts, "positive"), member(counts, "negative"),
                     member(counts, "unknown"), known > 0 ? Json(100 * positive / known) : Json()});
        table.add(std::move(line));
      }
    }
  }
  return table;
}

/// One row a run, one column a setting.
DataTable settings(const Json& figures) {
  std::vector<DataColumn> columns{{"run", "run"}};
  for (const Json& setting : figures.at("settings"))
    columns.push_back({setting.at("key"), setting.at("key"), Shown::kText});
  DataTable table("settings", "Settings on which the runs differ", columns);
  if (columns.size() == 1) return table;
  const Json& runs = figures.at("runs");
  for (std::size_t i = 0; i < runs.size(); ++i) {
    std::vector<Json> row{runs[i].at("name")};
    for (const Json& setting : figures.at("settings")) row.push_back(setting.at("values")[i]);
    table.add(std::move(row));
  }
  return table;
}

std::string versions_text(const Json& versions) {
  std::string text;
  for (const auto& [name, version] : versions.items())
    if (version.is_string() && !version.get<std::string>().empty())
      text += (text.empty() ? "" : ", ") + name + " " + version.get<std::string>();
  return text;
}

DataTable origins(const Json& figures) {
  using enum Shown;
  DataTable table("origins", "Versions, data and configuration of each run",
                  {{"run", "run"},
                   {"num_ranks", "ranks", kCount},
                   {"threads_per_rank", "threads", kCount},
                   {"backend", "backend"},
                   {"versions", "versions", kWrapped},
                   {"checkpoint", "evaluated checkpoint"},
                   {"data_hash", "data hash"},
                   {"config_hash", "configuration hash"},
                   {"prompts_hash", "prompts hash"},
                   {"seed", "seed", kCount}});
  for (const Json& run : figures.at("runs")) {
    const Json& environment = run.at("environment");
    const Json* main = main_evaluation(run);
    const Json evaluation = main == nullptr ? Json() : *main;
    const std::string versions = versions_text(environment.at("versions"));
    table.add({run.at("name"), environment.at("num_ranks"), environment.at("threads_per_rank"),
               environment.at("backend"), versions.empty() ? Json() : Json(versions),
               member(member(evaluation, "model"), "checkpoint"), environment.at("data_hash"),
               member(evaluation, "config_hash"), member(evaluation, "prompts_hash"),
               run.at("seed")});
  }
  return table;
}

DataTable missing(const Json& figures) {
  using enum Shown;
  DataTable table("missing", "What a run's files lack or have beyond this version",
                  {{"run", "run"},
                   {"file", "file"},
                   {"fields", "fields", kWrapped},
                   {"why", "what that means", kWrapped}});
  for (const Json& each : figures.at("missing"))
    table.add({each.at("run"), each.at("file"), joined(each.at("fields")), each.at("why")});
  return table;
}

}  // namespace

std::vector<DataTable> origin_tables(const Json& figures) {
  return {cohort(figures), settings(figures), origins(figures), missing(figures)};
}

}  // namespace triphase::trainer
