// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/import/cohort.hpp"
#include "data/import/table.hpp"

/// What the layouts' importers share.
namespace triphase::data {

/// A report's parts as a layout gives them; either may be empty.
struct ReportText {
  std::string findings;
  std::string impression;
};

/// Merlin's cell: findings before the marker "IMPRESSION:" (in any case), impression after it.
[[nodiscard]] ReportText split_at_impression(const std::string& text);
/// The whole is "findings\nIMPRESSION: impression", without the marker where one part is empty.
[[nodiscard]] std::string text_of(const ReportText& report, ReportPart part);

/// Scans below a folder by name without ending ("case1" of case1.nii.gz), sorted; a folder of .dcm files is one
/// scan, by its own name. Names that stand twice are dropped and listed.
[[nodiscard]] std::map<std::string, std::filesystem::path> find_scans(
    const std::filesystem::path& folder, ImportReport& report);
/// "case1" of "a/case1.nii.gz".
[[nodiscard]] std::string scan_name(const std::filesystem::path& path);

/// The first row of each id; later ones are dropped and listed.
[[nodiscard]] std::map<std::string, const CsvRow*> rows_by_id(const Table& table, std::size_t id_column,
                                                              ImportReport& report);

/// Labels of all studies from tables with a column for the id and one for each finding. A study that a table
/// lacks is unknown there.
/// @param id_names the column's possible names @param left_out columns that are no finding
/// @throws DataError for a finding that two tables have
void join_labels(const std::vector<std::filesystem::path>& files,
                 std::initializer_list<std::string_view> id_names,
                 const std::vector<std::string>& left_out, Manifest& manifest);

/// The kept columns of a metadata table. @throws DataError (65) for one that is not there
void join_metadata(const Table& table, std::size_t id_column, ImportedCohort& cohort);

/// Adds what the cohort's numbers say: studies without a table's row and patients; refuses an empty one.
void finish_cohort(ImportedCohort& cohort, const std::filesystem::path& folder);

/// The first of these files of a folder that is there. @throws DataError (66) that names them
[[nodiscard]] std::filesystem::path need_file(const std::filesystem::path& folder,
                                              std::initializer_list<std::string_view> names);

}  // namespace triphase::data
