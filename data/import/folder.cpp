// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/hash.hpp"
#include "data/import/join.hpp"
#include "data/utf8.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kMaxReportBytes = std::int64_t{16} << 20;
constexpr std::string_view kLabelPrefix = "label:";

/// 80:10:10 by patient, the same for everyone who has the same ids.
std::string split_of(const std::string& patient_id) {
  const std::uint64_t tenth = xxh3(std::as_bytes(std::span(patient_id))) % 10;
  return tenth == 8 ? "validation" : tenth == 9 ? "test" : "train";
}

/// scan.txt beside scan.nii.gz, or beside a series' folder.
fs::path text_beside(const fs::path& scan) { return scan.parent_path() / (scan_name(scan) + ".txt"); }

std::string read_text_report(const fs::path& path) {
  std::string text = read_file(path, kMaxReportBytes);
  TRIPHASE_CHECK(DataError, is_utf8(text) && text.find('\0') == std::string::npos, "report '", path.string(),
                 "' is not UTF-8 text, or holds a zero byte. Save it as plain text in UTF-8.");
  return text;
}

void import_texts(const ImportOptions& options, const std::map<std::string, fs::path>& scans,
                  ImportedCohort& cohort) {
  for (const auto& [id, path] : scans) {
    const fs::path text_file = text_beside(path);
    if (!fs::is_regular_file(text_file)) {
      cohort.report.dropped["there is no text file of the same name beside the scan"].push_back(id);
      continue;
    }
    ++cohort.report.num_reports;
    StudyRecord study;
    study.id = study.patient_id = id;
    study.site = options.site;
    study.split = split_of(id);
    study.image = path;
    study.report = text_of(split_at_impression(read_text_report(text_file)), options.part);
    if (study.report.empty())
      cohort.report.dropped["the report is empty"].push_back(id);
    else
      cohort.manifest.records.push_back(std::move(study));
  }
  cohort.report.notes.emplace_back("No table names patients: every scan counts as a patient of its own.");
}

void import_table(const ImportOptions& options, const std::map<std::string, fs::path>& scans,
                  ImportedCohort& cohort) {
  ImportReport& report = cohort.report;
  const Table table(options.reports);
  const std::size_t id_column = table.need({"id", "study id", "image", "VolumeName", "scan"});
  const auto text_column = table.find({"report", "text"});
  const std::size_t findings_column = text_column ? *text_column : table.need({"findings", "report"});
  const auto impression_column = text_column ? std::nullopt : table.find({"impression", "impressions"});
  const auto patient_column = table.find({"patient id"});
  const auto site_column = table.find({"site"});
  const auto split_column = table.find({"split"});
  const auto group_column = table.find({"report group"});
  report.num_reports = static_cast<std::int64_t>(table.rows().size());
  const auto rows = rows_by_id(table, id_column, report);
  const auto cell = [&](const CsvRow& row, std::optional<std::size_t> column, const std::string& otherwise) {
    const std::string text = column ? table.cell(row, *column) : "";
    return text.empty() ? otherwise : text;
  };
  for (const auto& [id, row] : rows) {
    const auto scan = scans.find(id);
    ReportText text = split_at_impression(table.cell(*row, findings_column));
    if (impression_column) text.impression = table.cell(*row, *impression_column);
    StudyRecord study;
    study.id = id;
    study.patient_id = cell(*row, patient_column, id);
    study.site = cell(*row, site_column, options.site);
    study.split = cell(*row, split_column, split_of(study.patient_id));
    study.report_group = cell(*row, group_column, "");
    study.report = text_of(text, options.part);
    if (scan == scans.end()) {
      report.dropped["there is no scan of this name"].push_back(id);
    } else if (study.report.empty()) {
      report.dropped["the report is empty"].push_back(id);
    } else {
      study.image = scan->second;
      cohort.manifest.records.push_back(std::move(study));
    }
  }
  for (const auto& [id, path] : scans)
    if (!rows.contains(id)) report.dropped["there is no report of this scan"].push_back(id);
  for (std::size_t column = 0; column < table.columns().size(); ++column) {
    const std::string& name = table.columns()[column];
    if (!name.starts_with(kLabelPrefix) || name.size() == kLabelPrefix.size()) continue;
    cohort.manifest.findings.push_back(name.substr(kLabelPrefix.size()));
    for (StudyRecord& study : cohort.manifest.records)
      study.labels.push_back(table.label(*rows.at(study.id), column));
  }
  join_metadata(table, id_column, cohort);
  if (!patient_column)
    report.notes.emplace_back("The table names no patients: every scan counts as a patient of its own.");
  if (!split_column)
    report.notes.emplace_back("There is no column 'split': patients were divided 80:10:10 by the hash of their id.");
}

}  // namespace

ImportedCohort import_folder(const ImportOptions& options) {
  ImportedCohort cohort;
  cohort.kept_columns = options.kept_columns;
  ImportOptions with_site = options;
  if (with_site.site.empty()) with_site.site = "site";
  const auto scans = find_scans(options.folder, cohort.report);
  if (options.reports.empty()) {
    TRIPHASE_CHECK(ConfigError, options.kept_columns.empty(),
                   "--keep names a column, and there is no table. Give one with --reports.");
    import_texts(with_site, scans, cohort);
  } else {
    import_table(with_site, scans, cohort);
  }
  join_labels(options.label_files, {"id", "study id", "image", "VolumeName", "scan"}, {}, cohort.manifest);
  finish_cohort(cohort, options.folder);
  return cohort;
}

}  // namespace triphase::data
