// SPDX-License-Identifier: Apache-2.0
#include "trainer/study.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <map>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/toml_writer.hpp"
#include "trainer/evaluate.hpp"
#include "trainer/report.hpp"
#include "trainer/same_settings.hpp"
#include "trainer/train.hpp"

namespace triphase::trainer {
namespace {

std::string study_dir(const StudyConfig& study) { return study.output_dir + "/" + study.name; }

std::string run_name(const std::string& method, double temperature, std::int64_t seed) {
  return str(method, "_t", toml_text(temperature), "_s", seed);
}

std::filesystem::path evaluation_file(const RunConfig& config) {
  return std::filesystem::path(config.run_dir()) / "evaluation" /
         (config.data.test_split + ".json");
}

/// The configuration that evaluate_run() leaves beside its result.
std::filesystem::path evaluation_settings(const RunConfig& config) {
  return evaluation_file(config).replace_extension(".toml");
}

/// An evaluation without its configuration is made again: nobody can tell what it is of.
bool is_evaluated(const RunConfig& config) {
  return std::filesystem::exists(evaluation_file(config)) &&
         std::filesystem::exists(evaluation_settings(config));
}

/// @throws ConfigError when `file` was written under other settings than the run has now
void check_unchanged(const RunConfig& config, const std::filesystem::path& file) {
  constexpr std::size_t kShown = 6;
  const std::vector<std::string> lines = differing_settings(file, config);
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, lines.size()); ++i) text += "\n    " + lines[i];
  if (lines.size() > kShown) text += str("\n    and ", lines.size() - kShown, " more");
  TRIPHASE_CHECK(ConfigError, lines.empty(), "'", file.string(),
                 "' was written with other settings than the study has now (its numbers would pass "
                 "for theirs):",
                 text, "\n  Set them back, give study.name another value, or move '",
                 config.run_dir(), "' away to have that run made again.");
}

/// Before any run, so that hours are not spent first.
void check_unchanged(const std::vector<StudyRun>& runs) {
  for (const StudyRun& run : runs) {
    const std::filesystem::path trained =
        std::filesystem::path(run.config.run_dir()) / "config.toml";
    if (std::filesystem::exists(trained)) check_unchanged(run.config, trained);
    if (is_evaluated(run.config)) check_unchanged(run.config, evaluation_settings(run.config));
  }
}

/// Keys of a run that the grid sets, and where the study has them.
const std::map<std::string, std::string>& grid_keys() {
  static const std::map<std::string, std::string> keys{
      {"adapt.method", "study.methods"},
      {"loss.temperature_init", "study.temperatures"},
      {"run.seed", "study.seeds"},
      {"run.output_dir", "study.output_dir"},
      {"run.name", "study.name"}};
  return keys;
}

bool is_study_variable(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name == "triphase__study" || name.starts_with("triphase__study__");
}

/// Takes what concerns the runs out of the sources, into the study. @return what is left
ConfigSources take_run_settings(ConfigSources sources, StudyConfig& study) {
  const std::map<std::string, std::string> environment = std::move(sources.environment);
  sources.environment.clear();
  for (const auto& [name, value] : environment)
    (is_study_variable(name) ? sources.environment : study.run_environment).emplace(name, value);
  const std::vector<std::string> sets = std::move(sources.sets);
  sources.sets.clear();
  for (const std::string& set : sets) {
    const std::string key = set.substr(0, set.find('='));
    const bool is_run_key = set.size() > key.size() && key != "study" && !key.starts_with("study.");
    const auto in_grid = grid_keys().find(key);
    TRIPHASE_CHECK(ConfigError, !is_run_key || in_grid == grid_keys().end(), "--set ", key,
                   ": a study gives each of its runs its own '", key, "'. Set ", in_grid->second,
                   ".");
    (is_run_key ? study.run_sets : sources.sets).push_back(set);
  }
  return sources;
}

/// One row for each finding of one run.
Json rows_of(const StudyRun& run, const Json& evaluation) {
  Json rows = Json::array();
  for (const auto& [name, finding] : evaluation.at("findings").items()) {
    Json row{{"method", run.method},
             {"temperature", run.temperature},
             {"seed", run.seed},
             {"finding", name}};
    for (const char* key : {"auc", "auc_ci95", "f1", "f1_ci95", "sensitivity", "specificity"})
      if (finding.contains(key)) row[key] = finding.at(key);
    if (finding.contains("linear_probe") && finding.at("linear_probe").is_object())
      row["linear_probe_auc"] = finding.at("linear_probe").at("auc");
    row["run_dir"] = run.config.run_dir();
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string table_of(const Json& rows) {
  std::string table = "method  temperature  seed  finding           AUC      F1\n";
  for (const Json& row : rows) {
    const auto number = [&](const char* key) {
      return row.contains(key) && row.at(key).is_number() ? row.at(key).get<double>() : -1.0;
    };
    char line[160];
    std::snprintf(line, sizeof line, "%-7s %-12g %-5lld %-16s %7.4f %7.4f\n",
                  row.at("method").get<std::string>().c_str(), row.at("temperature").get<double>(),
                  row.at("seed").get<long long>(), row.at("finding").get<std::string>().c_str(),
                  number("auc"), number("f1"));
    table += line;
  }
  return table;
}

}  // namespace

StudyConfig load_study_config(const ConfigSources& sources) {
  StudyConfig study;
  ConfigReader reader(take_run_settings(sources, study));
  reader.read("study.name", study.name);
  reader.read("study.output_dir", study.output_dir);
  reader.read("study.base", study.base);
  reader.read("study.methods", study.methods);
  reader.read("study.temperatures", study.temperatures);
  reader.read("study.seeds", study.seeds);
  reader.read("study.full_set", study.full_set);
  reader.read("study.peft_set", study.peft_set);
  reader.finish();
  if (study.base.empty())
    throw reader.error("study.base", "names no run file; give the base run's TOML file");
  for (const std::string& method : study.methods)
    if (method != "full" && method != "peft")
      throw reader.error("study.methods",
                         str("'", method, "' is no method; use 'full' and 'peft'"));
  if (study.methods.empty() || study.temperatures.empty() || study.seeds.empty())
    throw reader.error("study.methods",
                       "methods, temperatures and seeds need one value each at least");
  return study;
}

std::vector<StudyRun> study_runs(const StudyConfig& study) {
  std::vector<StudyRun> runs;
  for (const std::string& method : study.methods) {
    for (const double temperature : study.temperatures) {
      for (const std::int64_t seed : study.seeds) {
        ConfigSources sources{.files = {}, .environment = study.run_environment, .sets = {}};
        for (const std::string& file : study.base) sources.files.emplace_back(file);
        sources.sets = method == "full" ? study.full_set : study.peft_set;
        sources.sets.insert(sources.sets.end(), study.run_sets.begin(), study.run_sets.end());
        sources.sets.push_back("adapt.method=" + method);
        sources.sets.push_back("loss.temperature_init=" + toml_text(temperature));
        sources.sets.push_back(str("run.seed=", seed));
        sources.sets.push_back("run.output_dir=" + study_dir(study));
        sources.sets.push_back("run.name=" + run_name(method, temperature, seed));
        runs.push_back({method, temperature, seed, load_run_config(sources)});
      }
    }
  }
  return runs;
}

std::string describe_study(const StudyConfig& study) {
  std::string text;
  for (const StudyRun& run : study_runs(study)) text += run.config.run_dir() + "\n";
  return text;
}

StudyOutcome run_study(const StudyConfig& study, dist::Runtime& runtime, bool show_progress) {
  std::vector<StudyRun> runs;
  dist::agree_on(runtime.world(), [&] {
    runs = study_runs(study);
    for (const StudyRun& run : runs) {
      check_backend(run.config, runtime.num_ranks());
      if (run.config.distributed.backend == "nccl") runtime.use_nccl();
    }
    if (runtime.rank() == 0) check_unchanged(runs);
    make_output_directory(study_dir(study));
  });
  Json rows = Json::array();
  std::vector<std::string> run_dirs;
  for (const StudyRun& run : runs) {
    runtime.set_timeout(run.config.distributed.timeout_seconds);
    Logger log({.rank = runtime.rank(),
                .num_ranks = runtime.num_ranks(),
                .quiet = !show_progress,
                .file = {}});
    // Rank 0 looks; the others follow, so that a shared file system's delay cannot part them.
    const bool done =
        dist::any_rank(runtime.world(), runtime.rank() == 0 && is_evaluated(run.config));
    if (!done) {
      log.info("study run ", run.config.run_dir());
      const TrainResult trained =
          train(run.config, {.resume = "auto", .show_progress = show_progress}, runtime, log);
      if (trained.stopped_on_request)
        return {.stopped_on_request = true, .table = {}, .report = {}};
      evaluate_run(run.config, trained.best_checkpoint, run.config.data.test_split, "", runtime,
                   log, show_progress);
    }
    run_dirs.push_back(run.config.run_dir());
    dist::agree_on(runtime.world(), [&] {
      if (runtime.rank() != 0) return;
      for (Json& row : rows_of(run, read_json(evaluation_file(run.config))))
        rows.push_back(std::move(row));
    });
  }
  StudyOutcome outcome{.table = table_of(rows), .report = study_dir(study) + "/report.html"};
  dist::agree_on(runtime.world(), [&] {
    if (runtime.rank() != 0) return;
    write_json(study_dir(study) + "/study.json", Json{{"name", study.name}, {"runs", rows}});
    write_report(run_dirs, outcome.report);
  });
  return outcome;
}

}  // namespace triphase::trainer
