// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "data/import/join.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// Merlin writes train, val and test.
std::string split_name(const std::string& split, const Table& table, const CsvRow& row) {
  const std::string name = plain_name(split);
  if (name == "val" || name == "valid" || name == "validation") return "validation";
  TRIPHASE_CHECK(DataError, name == "train" || name == "test", table.place(row), "the split is '", split,
                 "'; expected train, val or test.");
  return name;
}

}  // namespace

ImportedCohort import_merlin(const ImportOptions& options) {
  ImportedCohort cohort;
  cohort.kept_columns = options.kept_columns;
  ImportReport& report = cohort.report;
  const fs::path& folder = options.folder;
  const auto scans = find_scans(folder / "merlin_data", report);
  const Table table(options.reports.empty() ? need_file(folder, {"reports_final.xlsx", "reports_final.csv"})
                                            : options.reports);
  const std::size_t id_column = table.need({"study id"});
  const std::size_t findings_column = table.need({"Findings"});
  const std::size_t split_column = table.need({"Split"});
  const auto patient_column = table.find({"patient id"});
  report.num_reports = static_cast<std::int64_t>(table.rows().size());
  const auto rows = rows_by_id(table, id_column, report);
  for (const auto& [id, row] : rows) {
    const auto scan = scans.find(id);
    const std::string text =
        text_of(split_at_impression(table.cell(*row, findings_column)), options.part);
    if (scan == scans.end()) {
      report.dropped["there is no scan of this name in merlin_data"].push_back(id);
    } else if (text.empty()) {
      report.dropped["the report is empty"].push_back(id);
    } else {
      StudyRecord study;
      study.id = id;
      study.patient_id = patient_column ? table.cell(*row, *patient_column) : id;
      study.site = options.site.empty() ? "merlin" : options.site;
      study.split = split_name(table.cell(*row, split_column), table, *row);
      study.image = scan->second;
      study.report = text;
      cohort.manifest.records.push_back(std::move(study));
    }
  }
  for (const auto& [id, path] : scans)
    if (!rows.contains(id)) report.dropped["there is no report of this scan"].push_back(id);
  if (!patient_column)
    report.notes.emplace_back("This layout names no patients: every study counts as a patient of its own. Splits "
                              "are the layout's; 'patient' as a group (loss.positives, sampler, intervals) means the study.");

  std::vector<fs::path> labels = options.label_files;
  if (labels.empty() && fs::is_regular_file(folder / "zero_shot_findings_disease_cls.csv"))
    labels.push_back(folder / "zero_shot_findings_disease_cls.csv");
  join_labels(labels, {"study id"}, {"merlin split", "split"}, cohort.manifest);
  if (!options.kept_columns.empty()) {
    const Table metadata(need_file(folder, {"metadata.csv"}));
    join_metadata(metadata, metadata.need({"study id"}), cohort);
  }
  finish_cohort(cohort, folder);
  return cohort;
}

}  // namespace triphase::data
