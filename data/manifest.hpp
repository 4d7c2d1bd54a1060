// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/scan_correction.hpp"

namespace triphase::data {

/// One study: a volume, its report, and what is known of it.
struct StudyRecord {
  std::string id;
  std::string patient_id;
  std::string site;
  std::string split;
  std::filesystem::path image;       ///< absolute, or relative to the working directory; exists or not
  std::string report;                ///< text as given
  std::string report_group;          ///< studies of one name share their report; empty: its own
  ScanCorrection correction;
  std::vector<std::int8_t> labels;   ///< one per finding: 1, 0, or -1 (unknown)
  std::map<std::string, std::string> metadata;  ///< other columns
  std::int64_t line = 0;             ///< 1-based line of the manifest where the record starts
};

struct Manifest {
  std::filesystem::path path;
  std::vector<std::string> findings;  ///< the <finding> of each label:<finding> column, in column order
  std::vector<StudyRecord> records;   ///< in file order
};

/// Reads the CSV of design §6 (RFC 4180, UTF-8, quoted fields may hold newlines).
/// Columns: id, patient_id, site, split, image, report or report_path, label:<finding>...; optional:
/// report_group, hu_slope, hu_intercept, spacing_x_mm, spacing_y_mm, spacing_z_mm (docs/manifests.md).
/// Others are kept as metadata. Paths are relative to the manifest.
/// @throws DataError (66) when it is not there; (65) naming file and line for a missing column, a wrong
///         number of fields, a bad label or number, an empty id, a duplicate id, or a patient or a
///         report group in two splits.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& path);

/// Whether there is something to read under the record's image path.
[[nodiscard]] bool has_image(const StudyRecord& record);

/// @throws DataError (66) naming line, id and path of the first record whose image is not a file
void check_images_exist(const Manifest& manifest);

/// One CSV field, quoted when it must be.
[[nodiscard]] std::string csv_field(const std::string& text);

/// The records of one CSV text; a row carries the 1-based line where it starts.
struct CsvRow {
  std::int64_t line = 0;
  std::vector<std::string> fields;
};
/// @throws DataError naming `name`, and the line, for an unclosed quote, text after a closing quote, a
///         field of more than 16 MiB, or a text in UTF-16
[[nodiscard]] std::vector<CsvRow> parse_csv(const std::string& text, const std::string& name);

}  // namespace triphase::data
