// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"
#include "trainer/report/read.hpp"

#include <vector>

namespace triphase::trainer {

/// Everything that the page shows, as data. The page, the CSV files and the terminal's table are
/// made from this and nothing else. Holds no row of any patient.
///
/// schema_version  2
/// title, headline texts
/// phantom         whether any run's data is the synthetic cohort
/// finding         the one that the charts are about: "hcc" when it was scored; null: none was
/// runs            [{name, method ("full", "peft", "none"), is_trained, preset, weights, seed,
///                  global_pairs, trained_on: {sites}, group, series (places in the lists below),
///                  trainable: {num_trainable, num_base_parameters, percent, percent_of},
///                  curves: {loss, loss_smooth, temperature, validation_loss: [[step, value]],
///                           validation_auc: {finding: [[step, value]]}},
///                  training: {loss, temperature: {first, last}, best: {step, by, value} (of the
///                             checkpoint that was kept), best_validation: {step, loss},
///                             skipped_steps},
///                  temperature: {initial, learnable, final},
///                  cost: {steps, pairs_seen, seconds_per_step, pairs_per_second,
///                         bytes_reduced_per_step, seconds: {phase: median}},
///                  evaluations: [evaluation/<split>.json without its cohort; the page's first],
///                  environment: {versions, num_ranks, threads_per_rank, backend, data_hash}}]
/// groups, series  see add_series()
/// cohorts         [{data_hash, runs, rows: see cohort_counts()}]
/// settings        see differing_run_settings()
/// missing         see missing_fields()
/// differences     see paired_differences()
/// tables          see report_tables(): each a table of the page and a CSV file
/// @throws DataError for scores and labels of different number; Json::exception for JSON of
///         another form
[[nodiscard]] Json report_figures(const std::vector<ReportRun>& runs);

}  // namespace triphase::trainer
