// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "tests/support/test_support.hpp"

#include <filesystem>
#include <map>
#include <string>

namespace triphase::test {

/// A tiny phantom cohort with cache, made once per test binary by the program itself.
struct TinyCohort {
  std::filesystem::path folder;
  std::filesystem::path manifest() const { return folder / "cohort" / "manifest.csv"; }
  std::filesystem::path cache() const { return folder / "cache"; }
};
/// @throws std::runtime_error with the program's output when it cannot be made
const TinyCohort& tiny_cohort();

/// Runs the program with these arguments, on `num_ranks` ranks (1: without mpirun).
CommandResult triphase(const std::string& arguments, int num_ranks = 1);

/// "key=value" pairs in one run file: tables are split off the dotted keys. Starts from a run of merlin_tiny on
/// the tiny cohort in `folder`/runs/`name`; `changes` override it; an empty value removes the key.
std::filesystem::path write_run_file(const std::filesystem::path& folder, const std::string& name,
                                     const std::map<std::string, std::string>& changes = {});

/// Every line of <run_dir>/metrics.jsonl.
std::vector<Json> read_metrics(const std::filesystem::path& run_dir);

/// The folder of the newest checkpoint of a run.
std::filesystem::path last_checkpoint(const std::filesystem::path& run_dir);

/// Expects the exit code, and every word in the output.
void expect_outcome(const CommandResult& result, int exit_code, std::initializer_list<std::string> words);

}  // namespace triphase::test
