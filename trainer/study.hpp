// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/runtime.hpp"
#include "trainer/run_config.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace triphase::trainer {

/// The [study] table: a grid over one base run file. A run's settings are, the later winning: the
/// base files, TRIPHASE__table__key in the environment, full_set or peft_set, --set table.key, and
/// the grid (adapt.method, loss.temperature_init, run.seed, run.output_dir, run.name).
struct StudyConfig {
  std::string name = "study";
  std::string output_dir = "runs";
  std::vector<std::string> base;           ///< run files, relative to the working directory; the later wins
  std::vector<std::string> methods{"full", "peft"};
  std::vector<double> temperatures{0.07};  ///< loss.temperature_init
  std::vector<std::int64_t> seeds{0};      ///< run.seed
  std::vector<std::string> full_set;       ///< "k=v" for the runs with method full
  std::vector<std::string> peft_set;       ///< "k=v" for the runs with method peft
  /// What concerns the runs, not the study: set by load_study_config().
  std::map<std::string, std::string> run_environment;
  std::vector<std::string> run_sets;
};

/// Keys of the table study are the study's; TRIPHASE__ names and --set of other tables are handed
/// to every run. A --set of a key that the grid sets is refused; the environment just yields to it.
/// @throws ConfigError with file:line:column
[[nodiscard]] StudyConfig load_study_config(const ConfigSources& sources);

/// One cell of the grid with its full configuration.
struct StudyRun {
  std::string method;
  double temperature = 0;
  std::int64_t seed = 0;
  RunConfig config;
};
/// The grid in the order method, temperature, seed. @throws ConfigError
[[nodiscard]] std::vector<StudyRun> study_runs(const StudyConfig& study);

/// The runs, one a line, with their run folders.
[[nodiscard]] std::string describe_study(const StudyConfig& study);

struct StudyOutcome {
  bool stopped_on_request = false;
  std::string table;   ///< for people: one row a run
  std::string report;  ///< path of the page
};

/// Trains and evaluates every run that has no evaluation of its test split yet (so a stopped study
/// goes on where it stopped), then writes study.json and report.html into output_dir/name.
/// Collective.
/// @throws ConfigError before any run starts when a run's folder holds results of other settings
/// than the study gives it now (see differing_settings()): nothing is overwritten
[[nodiscard]] StudyOutcome run_study(const StudyConfig& study, dist::Runtime& runtime, bool show_progress);

}  // namespace triphase::trainer
