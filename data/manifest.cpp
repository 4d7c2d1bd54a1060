// SPDX-License-Identifier: Apache-2.0
#include "data/manifest.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/utf8.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kMaxManifestBytes = std::int64_t{4} << 30;
constexpr std::int64_t kMaxReportBytes = std::int64_t{16} << 20;
constexpr std::string_view kLabelPrefix = "label:";

/// Which column holds what.
struct Columns {
  std::size_t count = 0;
  std::size_t id = 0, patient_id = 0, site = 0, split = 0, image = 0;
  std::optional<std::size_t> report;
  std::optional<std::size_t> report_path;
  std::optional<std::size_t> report_group;
  std::vector<std::pair<std::size_t, double*(*)(ScanCorrection&)>> corrections;  ///< column, number
  std::vector<std::pair<std::size_t, std::string>> labels;    ///< column, finding
  std::vector<std::pair<std::size_t, std::string>> metadata;  ///< column, name
};

/// The columns that correct a scan, and what of it they hold.
const std::pair<const char*, double* (*)(ScanCorrection&)> kCorrections[] = {
    {"hu_slope", [](ScanCorrection& c) { return &c.hu_slope; }},
    {"hu_intercept", [](ScanCorrection& c) { return &c.hu_intercept; }},
    {"spacing_x_mm", [](ScanCorrection& c) { return &c.spacing_mm[0]; }},
    {"spacing_y_mm", [](ScanCorrection& c) { return &c.spacing_mm[1]; }},
    {"spacing_z_mm", [](ScanCorrection& c) { return &c.spacing_mm[2]; }}};

std::string place(const fs::path& path, std::int64_t line) {
  return str("manifest '", path.string(), "' line ", line, ": ");
}

std::optional<std::size_t> find_column(const std::vector<std::string>& header,
                                       const std::string& name) {
  const auto found = std::find(header.begin(), header.end(), name);
  if (found == header.end()) return std::nullopt;
  return static_cast<std::size_t>(found - header.begin());
}

std::size_t need_column(const CsvRow& header, const std::string& name, const fs::path& path) {
  const std::optional<std::size_t> column = find_column(header.fields, name);
  TRIPHASE_CHECK(DataError, column.has_value(), place(path, header.line), "there is no column '",
                 name,
                 "'. A manifest has id, patient_id, site, split, image, and report or "
                 "report_path.");
  return *column;
}

Columns read_header(const CsvRow& header, const fs::path& path) {
  std::set<std::string> seen;
  for (const std::string& name : header.fields)
    TRIPHASE_CHECK(DataError, seen.insert(name).second, place(path, header.line), "the column '",
                   name, "' is there twice. Rename or drop one.");
  Columns columns;
  columns.count = header.fields.size();
  columns.id = need_column(header, "id", path);
  columns.patient_id = need_column(header, "patient_id", path);
  columns.site = need_column(header, "site", path);
  columns.split = need_column(header, "split", path);
  columns.image = need_column(header, "image", path);
  columns.report_path = find_column(header.fields, "report_path");
  columns.report = columns.report_path ? find_column(header.fields, "report")
                                       : need_column(header, "report", path);

  std::set<std::size_t> taken{columns.id, columns.patient_id, columns.site, columns.split,
                              columns.image};
  if (columns.report) taken.insert(*columns.report);
  if (columns.report_path) taken.insert(*columns.report_path);
  columns.report_group = find_column(header.fields, "report_group");
  if (columns.report_group) taken.insert(*columns.report_group);
  for (const auto& [name, number] : kCorrections) {
    const std::optional<std::size_t> column = find_column(header.fields, name);
    if (!column) continue;
    columns.corrections.emplace_back(*column, number);
    taken.insert(*column);
  }
  for (std::size_t i = 0; i < header.fields.size(); ++i) {
    const std::string& name = header.fields[i];
    if (taken.contains(i)) continue;
    if (!name.starts_with(kLabelPrefix)) {
      columns.metadata.emplace_back(i, name);
      continue;
    }
    TRIPHASE_CHECK(DataError, name.size() > kLabelPrefix.size(), place(path, header.line),
                   "a column is called 'label:' without a finding. Write label:<finding>.");
    columns.labels.emplace_back(i, name.substr(kLabelPrefix.size()));
  }
  return columns;
}

/// 1, 0 or -1; an empty cell is unknown. A table program writes 1.0 once a column has empty cells.
std::int8_t parse_label(const std::string& text, const std::string& finding, const fs::path& path,
                        std::int64_t line) {
  if (text == "1" || text == "1.0") return 1;
  if (text == "0" || text == "0.0") return 0;
  if (text.empty() || text == "-1" || text == "-1.0") return -1;
  throw DataError(str(place(path, line), "label:", finding, " is '", text,
                      "'; expected 1, 0, -1 (unknown) or nothing (unknown)."));
}

const std::string& need_text(const CsvRow& row, std::size_t column, const char* name,
                             const fs::path& path) {
  const std::string& text = row.fields[column];
  TRIPHASE_CHECK(DataError, !text.empty(), place(path, row.line), "the ", name,
                 " is empty. Fill it in or drop the row.");
  return text;
}

/// What HDF5 strings and tokenizers can hold: UTF-8 without NUL.
void check_text(const std::string& text, const std::string& where) {
  TRIPHASE_CHECK(DataError, is_utf8(text), where,
                 "bytes that are not UTF-8. Save the file in UTF-8.");
  TRIPHASE_CHECK(DataError, text.find('\0') == std::string::npos, where,
                 "a zero byte. Save the file as plain text.");
}

std::string read_report(const CsvRow& row, const Columns& columns, const fs::path& path) {
  if (columns.report && (!columns.report_path || !row.fields[*columns.report].empty()))
    return row.fields[*columns.report];
  const fs::path report =
      path.parent_path() / need_text(row, *columns.report_path, "report_path", path);
  try {
    std::string text = read_file(report, kMaxReportBytes);
    check_text(text, str("report '", report.string(), "' holds "));
    return text;
  } catch (Error& error) {
    error.add_context(str("named in manifest '", path.string(), "' line ", row.line));
    throw;
  }
}

/// An empty cell leaves the scan as its file has it.
ScanCorrection read_correction(const CsvRow& row, const Columns& columns, const fs::path& path) {
  ScanCorrection correction;
  for (const auto& [column, number] : columns.corrections) {
    const std::string& text = row.fields[column];
    if (text.empty()) continue;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), *number(correction));
    TRIPHASE_CHECK(DataError, error == std::errc() && end == text.data() + text.size(),
                   place(path, row.line), "'", text, "' is no number. Write it as in 0.75.");
  }
  const std::string fault = fault_of(correction);
  TRIPHASE_CHECK(DataError, fault.empty(), place(path, row.line), fault,
                 ", which no scan has. Correct it, or leave it empty to take the file's own.");
  return correction;
}

StudyRecord read_record(const CsvRow& row, const Columns& columns, const fs::path& path) {
  TRIPHASE_CHECK(DataError, row.fields.size() == columns.count, place(path, row.line), "there are ",
                 row.fields.size(), " fields, the header has ", columns.count,
                 ". Quote a field that holds commas or line breaks.");
  for (const std::string& field : row.fields)
    check_text(field, place(path, row.line) + "a field holds ");
  StudyRecord record;
  record.line = row.line;
  record.id = need_text(row, columns.id, "id", path);
  record.patient_id = need_text(row, columns.patient_id, "patient_id", path);
  record.site = need_text(row, columns.site, "site", path);
  record.split = need_text(row, columns.split, "split", path);
  record.image = path.parent_path() / need_text(row, columns.image, "image", path);
  record.report = read_report(row, columns, path);
  if (columns.report_group) record.report_group = row.fields[*columns.report_group];
  record.correction = read_correction(row, columns, path);
  for (const auto& [column, finding] : columns.labels)
    record.labels.push_back(parse_label(row.fields[column], finding, path, row.line));
  for (const auto& [column, name] : columns.metadata) record.metadata[name] = row.fields[column];
  return record;
}

/// Ids are unique; a patient's and a report's studies are all in one split, or results would be too good. Messages
/// go into logs, where patients' names have no place: studies and lines stand for them.
void check_records(const Manifest& manifest) {
  std::map<std::string, std::int64_t> line_of_id;
  std::map<std::string, const StudyRecord*> first_of_patient, first_of_group;
  for (const StudyRecord& record : manifest.records) {
    const auto [id, is_new] = line_of_id.emplace(record.id, record.line);
    TRIPHASE_CHECK(DataError, is_new, place(manifest.path, record.line), "the id '", record.id,
                   "' was already used in line ", id->second, ". Ids are unique: rename one.");
    const StudyRecord& first = *first_of_patient.emplace(record.patient_id, &record).first->second;
    TRIPHASE_CHECK(DataError, first.split == record.split, place(manifest.path, record.line),
                   "the patient of study '", record.id, "' is in split '", record.split,
                   "' here and in split '", first.split, "' in line ", first.line, " (study '",
                   first.id, "'). Put all studies of a patient in one split.");
    if (record.report_group.empty()) continue;
    const StudyRecord& shared = *first_of_group.emplace(record.report_group, &record).first->second;
    TRIPHASE_CHECK(DataError, shared.split == record.split, place(manifest.path, record.line),
                   "study '", record.id, "' shares its report with study '", shared.id, "' of line ",
                   shared.line, ", but is in split '", record.split, "' and that in '", shared.split,
                   "'. Put all studies of a report group in one split.");
  }
}

}  // namespace

Manifest read_manifest(const fs::path& path) {
  const std::vector<CsvRow> rows = parse_csv(read_file(path, kMaxManifestBytes), path.string());
  TRIPHASE_CHECK(DataError, !rows.empty(), "manifest '", path.string(),
                 "' is empty. Its first line names the columns.");
  const Columns columns = read_header(rows.front(), path);
  Manifest manifest;
  manifest.path = path;
  for (const auto& [column, finding] : columns.labels) {
    check_text(finding, place(path, rows.front().line) + "a finding's name holds ");
    manifest.findings.push_back(finding);
  }
  for (std::size_t i = 1; i < rows.size(); ++i)
    manifest.records.push_back(read_record(rows[i], columns, path));
  TRIPHASE_CHECK(DataError, !manifest.records.empty(), "manifest '", path.string(),
                 "' has columns but no studies. Add one row for each study.");
  check_records(manifest);
  return manifest;
}

bool has_image(const StudyRecord& record) {
  std::error_code ignored;
  return fs::is_regular_file(record.image, ignored) || fs::is_directory(record.image, ignored);
}

void check_images_exist(const Manifest& manifest) {
  for (const StudyRecord& record : manifest.records) {
    TRIPHASE_CHECK_CODE(DataError, kMissingInput, has_image(record),
                        place(manifest.path, record.line), "the image '", record.image.string(),
                        "' of study '", record.id,
                        "' is no file and no folder. Check the path; it is relative to the manifest.");
  }
}

}  // namespace triphase::data
