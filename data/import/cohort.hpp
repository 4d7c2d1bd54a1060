// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/manifest.hpp"

namespace triphase::data {

/// Which part of a report becomes the study's text.
enum class ReportPart { kWhole, kFindings, kImpression };
[[nodiscard]] ReportPart report_part_from_name(const std::string& name);  ///< @throws ConfigError

/// Which of CT-RATE's volumes are taken: as published first, whose tables correct them, or the repaired ones.
enum class CtRateVolumes { kFixedElseRaw, kFixed, kRaw };
[[nodiscard]] CtRateVolumes ct_rate_volumes_from_name(const std::string& name);  ///< @throws ConfigError

struct ImportOptions {
  std::filesystem::path folder{};                   ///< of the layout
  std::string site{};                               ///< of every study, unless a table has a column for it
  ReportPart part = ReportPart::kWhole;
  std::filesystem::path reports{};                  ///< a table in place of the layout's own; empty: that
  std::vector<std::filesystem::path> label_files{}; ///< in place of the layout's own; empty: that
  std::vector<std::string> kept_columns{};          ///< carried on from the metadata, no others are
  CtRateVolumes volumes = CtRateVolumes::kFixedElseRaw;
};

/// What was joined, what was missing, what was dropped and why. Studies are told by their ids.
struct ImportReport {
  std::int64_t num_images = 0;   ///< found in the folder
  std::int64_t num_reports = 0;  ///< rows of the report table, or report files
  std::map<std::string, std::vector<std::string>> dropped;  ///< reason -> ids
  std::vector<std::string> notes;                           ///< what a user must know of the result
};

/// A cohort on its way into a manifest.
struct ImportedCohort {
  Manifest manifest;                      ///< images absolute; metadata: the kept columns
  std::vector<std::string> kept_columns;
  ImportReport report;
};

/// Merlin's public layout: merlin_data/<study id>.nii.gz, reports_final.xlsx (or .csv; study id, Findings with
/// the marker "IMPRESSION:", Split), zero_shot_findings_disease_cls.csv (1, 0, -1), metadata.csv.
/// Of a study id that stands twice the first row counts. It names no patients: every study is its own.
/// @throws DataError (66) for a file of the layout that is not there, (65) for one that is damaged, or
///         when nothing can be joined. Purely local.
[[nodiscard]] ImportedCohort import_merlin(const ImportOptions& options);

/// CT-RATE's public layout: dataset/{train,valid}[_fixed]/<patient>/<scan>/<volume>.nii.gz, reports, metadata and
/// labels as CSV; "valid" is written as "validation". Volumes of a scan share its report: their report_group is
/// the scan. Raw volumes get the slope, intercept and spacing of the metadata, repaired ones do not.
/// @throws as import_merlin()
[[nodiscard]] ImportedCohort import_ct_rate(const ImportOptions& options);

/// A folder of scans, in any depth, with a text file of the same name beside each (scan.txt), or with a
/// table (`reports`): id or image, report or findings and impression, and where there is one patient_id,
/// site, split, report_group, label:<finding>. Without a column `split` patients are divided 80:10:10 by
/// the hash of their id.
/// @throws as import_merlin()
[[nodiscard]] ImportedCohort import_folder(const ImportOptions& options);

/// Writes the manifest, images relative to it, and reads it back before it takes its name: what
/// read_manifest() refuses is refused here. @throws DataError, IoError
void write_manifest(const std::filesystem::path& path, const ImportedCohort& cohort);

}  // namespace triphase::data
