// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/evaluate.hpp"

namespace triphase::test {

/// The tiny run's configuration with few resamples, and its model with weights drawn from the seed.
struct EvaluationSubject {
  trainer::RunConfig config;
  models::TwoTower model{nullptr};
  std::unique_ptr<data::Cache> cache;
};
[[nodiscard]] EvaluationSubject evaluation_subject(const std::filesystem::path& output_dir,
                                                   const Settings& changes = {});

/// [[finding]] of this name with two positive prompts and a negative one, as TOML.
[[nodiscard]] std::string one_finding(const std::string& name);

/// Every index of the cache's samples, in order.
[[nodiscard]] std::vector<std::int64_t> all_samples(const data::Cache& cache);

}  // namespace triphase::test
