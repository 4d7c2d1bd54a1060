// SPDX-License-Identifier: Apache-2.0
#include "trainer/report_read.hpp"

#include "base/file.hpp"

#include <algorithm>
#include <map>
#include <sstream>

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxMetricsBytes = std::int64_t{1} << 30;

/// The run's configuration, or the one an evaluation left beside its result.
fs::path config_file(const fs::path& folder) {
  if (fs::exists(folder / "config.toml")) return folder / "config.toml";
  std::vector<fs::path> beside;
  if (fs::is_directory(folder / "evaluation"))
    for (const auto& entry : fs::directory_iterator(folder / "evaluation"))
      if (entry.path().extension() == ".toml") beside.push_back(entry.path());
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, !beside.empty(), "run folder '", folder.string(),
                      "' has no config.toml. Give a folder that triphase train or triphase "
                      "evaluate wrote.");
  return *std::min_element(beside.begin(), beside.end());
}

/// A line that a killed run cut short is the last one and is left out; any other damage is an
/// error.
std::vector<Json> read_metrics(const fs::path& path) {
  std::map<std::int64_t, std::vector<Json>> by_step;
  std::istringstream lines(read_file(path, kMaxMetricsBytes));
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool is_record =
        record.is_object() && record.contains("step") && record["step"].is_number_integer();
    if (!is_record && lines.peek() == std::istringstream::traits_type::eof()) break;
    TRIPHASE_CHECK(DataError, is_record, "'", path.string(), "' line ", number,
                   " is no record with a step. Remove the line, or report on another run.");
    const auto step = record["step"].get<std::int64_t>();
    by_step[step].push_back(std::move(record));
  }
  std::vector<Json> records;
  for (auto& [step, same] : by_step)
    for (Json& record : same) records.push_back(std::move(record));
  return records;
}

std::vector<Json> read_evaluations(const fs::path& folder) {
  std::vector<fs::path> files;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".json" && !entry.path().string().ends_with(".scores.json"))
        files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Json> evaluations;
  for (const fs::path& file : files) {
    Json evaluation = read_json(file);
    TRIPHASE_CHECK(DataError,
                   evaluation.is_object() && evaluation.contains("findings") &&
                       evaluation["findings"].is_object() && evaluation.contains("split") &&
                       evaluation["split"].is_string() && evaluation.contains("n") &&
                       evaluation["n"].is_number(),
                   "'", file.string(), "' is no evaluation (split, n or findings are missing). ",
                   "Write it again with triphase evaluate.");
    evaluations.push_back(std::move(evaluation));
  }
  return evaluations;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> flat_settings(const std::string& resolved_toml) {
  std::vector<std::pair<std::string, std::string>> settings;
  std::istringstream lines(resolved_toml);
  std::string table;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[") && line.ends_with("]")) {
      table = line.substr(1, line.size() - 2) + ".";
      continue;
    }
    const std::size_t equals = line.find(" = ");
    if (line.empty() || line.front() == '#' || equals == std::string::npos) continue;
    settings.emplace_back(table + line.substr(0, equals), line.substr(equals + 3));
  }
  return settings;
}

ReportRun read_report_run(const fs::path& folder) {
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, fs::is_directory(folder), "run folder '",
                      folder.string(), "' is not there");
  ReportRun run;
  run.folder = folder;
  run.config =
      load_run_config(ConfigSources{.files = {config_file(folder)}, .environment = {}, .sets = {}});
  run.name = run.config.run.name;
  run.settings = flat_settings(run.config.resolved_toml);
  if (fs::exists(folder / "environment.json"))
    run.environment = read_json(folder / "environment.json");
  if (fs::exists(folder / "metrics.jsonl")) run.records = read_metrics(folder / "metrics.jsonl");
  run.evaluations = read_evaluations(folder / "evaluation");
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, run.is_trained() || !run.evaluations.empty(),
                      "run folder '", folder.string(),
                      "' has neither metrics.jsonl nor an evaluation, so there is nothing to "
                      "report. Train or evaluate it first.");
  return run;
}

}  // namespace triphase::trainer
