// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/trainer/run_fixture.hpp"
#include "trainer/study/run_study.hpp"

namespace triphase::test {

/// A base run file of two steps on the tiny cache, and study files over it, in a folder.
class StudyFolder {
 public:
  explicit StudyFolder(std::filesystem::path folder, Settings changes = {}, const TinyCache& cache = tiny_cache())
      : folder_(std::move(folder)) {
    changes.emplace("schedule.max_steps", "2");
    changes.emplace("schedule.warmup_steps", "0");
    changes.emplace("evaluate.bootstrap_samples", "20");
    changes.emplace("evaluate.k_shot", "[]");
    changes.emplace("evaluate.k_shot_repeats", "1");
    write_text(folder_ / "base.toml", tiny_run(folder_, changes, cache).resolved_toml);
  }

  /// [study] with `keys` in it, then `tables`.
  [[nodiscard]] trainer::StudyConfig load(const std::string& tables, const std::string& keys = "",
                                          const std::map<std::string, std::string>& environment = {},
                                          const std::vector<std::string>& sets = {}) const {
    write_text(folder_ / "study.toml", "[study]\nname = \"grid\"\noutput_dir = \"" + (folder_ / "runs").string() +
                                           "\"\nbase = [\"" + (folder_ / "base.toml").string() + "\"]\n" + keys + "\n" +
                                           tables);
    return trainer::load_study_config({.files = {folder_ / "study.toml"}, .environment = environment, .sets = sets});
  }
  [[nodiscard]] std::filesystem::path results() const { return folder_ / "runs/grid"; }

 private:
  std::filesystem::path folder_;
};

}  // namespace triphase::test
