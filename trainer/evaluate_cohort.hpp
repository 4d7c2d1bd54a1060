// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "data/cache.hpp"
#include "trainer/run_config.hpp"

namespace triphase::trainer {

/// Counts of a cache, no row of any patient: an array with one object for each site and split,
/// {site, split, n, patients, findings: {hcc: {positive, negative, unknown}}}, by site, then split.
[[nodiscard]] Json cohort_counts(const data::Cache& cache);

/// Whether the data is the synthetic cohort: phantom.json lies beside the prompts or above the
/// tokenizer, or the cache has the phantom's grid. Whatever comes from it is labelled so,
/// everywhere.
[[nodiscard]] bool is_phantom(const RunConfig& config, const data::Cache& cache);

}  // namespace triphase::trainer
