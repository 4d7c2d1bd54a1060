// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dist/runtime.hpp"
#include "trainer/run_config.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace triphase::trainer {

/// The [study] table: a grid over one base run file.
struct StudyConfig {
  std::string name = "study";
  std::string output_dir = "runs";
  std::vector<std::string> base;           ///< run files, relative to the working directory; the later wins
  std::vector<std::string> methods{"full", "peft"};
  std::vector<double> temperatures{0.07};  ///< loss.temperature_init
  std::vector<std::int64_t> seeds{0};      ///< run.seed
  std::vector<std::string> full_set;       ///< "k=v" for the runs with method full
  std::vector<std::string> peft_set;       ///< "k=v" for the runs with method peft
};

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

/// Trains and evaluates every run that has no evaluation of its test split yet (so a stopped study goes on
/// where it stopped), then writes study.json and report.html into output_dir/name. Collective.
[[nodiscard]] StudyOutcome run_study(const StudyConfig& study, dist::Runtime& runtime, bool show_progress);

}  // namespace triphase::trainer
