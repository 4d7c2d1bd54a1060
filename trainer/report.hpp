// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace triphase::trainer {

/// `triphase report`: one self-contained HTML page (inline SVG, no scripts from elsewhere) over run
/// folders, and the same figures as JSON beside it (out with .json). Holds: cohort (sites, splits,
/// prevalence), each run's method, trainable parameters and percentage, loss and AUC curves, AUC
/// and F1 with intervals, linear probe, bytes reduced and time per step, configuration differences,
/// versions and data hash. Shows no patient rows.
/// @throws DataError (66) for a folder without config.toml or metrics.jsonl; IoError
void write_report(const std::vector<std::string>& run_dirs, const std::string& out);

}  // namespace triphase::trainer
