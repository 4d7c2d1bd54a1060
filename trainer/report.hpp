// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace triphase::trainer {

/// `triphase report`: one self-contained HTML page (inline SVG, no scripts, nothing fetched) over
/// run folders (a study's folder stands for its cells that are done), with the same figures as JSON (out with .json) and each table as CSV (in the folder
/// out without .html, with _figures) beside it. What the page holds: report_figures(). Runs may be
/// of different versions: what a file lacks is named on the page and left out. Shows no patient
/// rows.
/// @return the table for a terminal: report_summary()
/// @throws DataError (66) for a folder without config.toml or metrics.jsonl; IoError
std::string write_report(const std::vector<std::string>& run_dirs, const std::string& out);

}  // namespace triphase::trainer
