// SPDX-License-Identifier: Apache-2.0
#include "data/import/join.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/nifti.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

bool is_scan_file(const std::string& name) {
  return name.ends_with(".nii") || name.ends_with(".nii.gz") || name.ends_with(".hdr") ||
         name.ends_with(".hdr.gz");
}

bool is_left_out(const std::string& name, const std::vector<std::string>& left_out) {
  return std::any_of(left_out.begin(), left_out.end(),
                     [&](const std::string& other) { return plain_name(other) == plain_name(name); });
}

}  // namespace

ReportPart report_part_from_name(const std::string& name) {
  if (name == "whole") return ReportPart::kWhole;
  if (name == "findings") return ReportPart::kFindings;
  if (name == "impression") return ReportPart::kImpression;
  throw ConfigError(str("'", name, "' is no part of a report. Use whole, findings or impression."));
}

ReportText split_at_impression(const std::string& text) {
  constexpr std::string_view kMarker = "impression:";
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; };
  const auto at = std::search(text.begin(), text.end(), kMarker.begin(), kMarker.end(), same);
  const auto trimmed = [](const std::string& part) {
    const std::size_t first = part.find_first_not_of(" \t\r\n");
    return first == std::string::npos
               ? std::string()
               : part.substr(first, part.find_last_not_of(" \t\r\n") - first + 1);
  };
  if (at == text.end()) return {trimmed(text), ""};
  return {trimmed(std::string(text.begin(), at)),
          trimmed(std::string(at + static_cast<std::ptrdiff_t>(kMarker.size()), text.end()))};
}

std::string text_of(const ReportText& report, ReportPart part) {
  if (part == ReportPart::kFindings) return report.findings;
  if (part == ReportPart::kImpression) return report.impression;
  if (report.findings.empty() || report.impression.empty()) return report.findings + report.impression;
  return report.findings + "\nIMPRESSION: " + report.impression;
}

std::string scan_name(const fs::path& path) {
  std::string name = path.filename().string();
  for (const std::string_view ending : {".gz", ".nii", ".hdr"})
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  return name;
}

std::map<std::string, fs::path> find_scans(const fs::path& folder, ImportReport& report) {
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, fs::is_directory(folder), "there is no folder '",
                      folder.string(), "'. Name the one that holds the scans.");
  std::set<fs::path> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(".dcm")) paths.insert(entry->path().parent_path());
    if (is_scan_file(name)) paths.insert(entry->path());
  }
  if (error) throw io_error(str("cannot look through '", folder.string(), "'"), error.value(), false);
  std::map<std::string, fs::path> scans;
  for (const fs::path& path : paths) {
    ++report.num_images;
    if (!scans.emplace(scan_name(path), path).second)
      report.dropped["another scan has this name, in another folder"].push_back(scan_name(path));
  }
  return scans;
}

std::map<std::string, const CsvRow*> rows_by_id(const Table& table, std::size_t id_column,
                                                ImportReport& report) {
  std::map<std::string, const CsvRow*> rows;
  for (const CsvRow& row : table.rows()) {
    const std::string id = scan_name(table.cell(row, id_column));
    TRIPHASE_CHECK(DataError, !id.empty(), table.place(row), "the id is empty. Fill it in or drop the row.");
    if (!rows.emplace(id, &row).second)
      report.dropped[str("a later row of '", table.path().filename().string(), "' with this id")]
          .push_back(id);
  }
  return rows;
}

void join_labels(const std::vector<fs::path>& files, std::initializer_list<std::string_view> id_names,
                 const std::vector<std::string>& left_out, Manifest& manifest) {
  for (const fs::path& file : files) {
    const Table table(file);
    const std::size_t id_column = table.need(id_names);
    ImportReport ignored;  // a label's later rows are told with the first table that has them
    const auto rows = rows_by_id(table, id_column, ignored);
    for (std::size_t column = 0; column < table.columns().size(); ++column) {
      const std::string& finding = table.columns()[column];
      if (column == id_column || finding.empty() || is_left_out(finding, left_out)) continue;
      TRIPHASE_CHECK(DataError,
                     std::find(manifest.findings.begin(), manifest.findings.end(), finding) ==
                         manifest.findings.end(),
                     "'", file.string(), "' has labels of '", finding,
                     "', and so has another table. Take one of them.");
      manifest.findings.push_back(finding);
      for (StudyRecord& study : manifest.records) {
        const auto row = rows.find(study.id);
        study.labels.push_back(row == rows.end() ? std::int8_t{-1} : table.label(*row->second, column));
      }
    }
  }
}

void join_metadata(const Table& table, std::size_t id_column, ImportedCohort& cohort) {
  ImportReport ignored;
  const auto rows = rows_by_id(table, id_column, ignored);
  for (const std::string& name : cohort.kept_columns) {
    const std::size_t column = table.need({name});
    for (StudyRecord& study : cohort.manifest.records) {
      const auto row = rows.find(study.id);
      study.metadata[name] = row == rows.end() ? "" : table.cell(*row->second, column);
    }
  }
}

void finish_cohort(ImportedCohort& cohort, const fs::path& folder) {
  TRIPHASE_CHECK(DataError, !cohort.manifest.records.empty(), "nothing in '", folder.string(),
                 "' could be joined: ", cohort.report.num_images, " scans, ", cohort.report.num_reports,
                 " reports, and no name that both have. Look at the names of one of each.");
  std::map<std::string, std::int64_t> studies_of_group;
  for (const StudyRecord& study : cohort.manifest.records)
    if (!study.report_group.empty()) ++studies_of_group[study.report_group];
  std::int64_t num_sharing = 0;
  for (const auto& [group, count] : studies_of_group) num_sharing += count > 1 ? count : 0;
  if (num_sharing > 0)
    cohort.report.notes.push_back(str(num_sharing,
                                      " volumes share their report with others (report_group): they are not "
                                      "each other's negatives in training."));
}

fs::path need_file(const fs::path& folder, std::initializer_list<std::string_view> names) {
  std::string tried;
  for (const std::string_view name : names) {
    if (fs::is_regular_file(folder / name)) return folder / name;
    tried += (tried.empty() ? "'" : " nor '") + (folder / name).string() + "'";
  }
  throw DataError(str("there is neither ", tried, ". Name the layout's own folder, or the table."),
                  ExitCode::kMissingInput);
}

}  // namespace triphase::data
