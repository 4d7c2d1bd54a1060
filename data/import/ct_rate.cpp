// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "data/import/join.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// A split as its folders call it, as its tables do ("validation", and for labels "valid"), and as we do.
struct Split {
  const char* folder;
  const char* table;
  const char* name;
};
constexpr std::array kSplits{Split{"train", "train", "train"}, Split{"valid", "validation", "validation"}};

/// "Not given." stands for nothing.
std::string given(const std::string& text) { return plain_name(text) == "notgiven." ? "" : text; }

/// "valid_1" and "valid_1_a" of "valid_1_a_2". @return empty where it has fewer parts
std::string first_parts(const std::string& volume, int count) {
  std::size_t at = 0;
  for (int i = 0; i < count; ++i) {
    at = volume.find('_', at);
    if (at == std::string::npos) return "";
    if (i + 1 < count) ++at;
  }
  return volume.substr(0, at);
}

/// What the metadata of a raw volume says: RescaleSlope, RescaleIntercept, XYSpacing as "[x, y]", ZSpacing.
class Corrections {
 public:
  explicit Corrections(const fs::path& path)
      : table_(path),
        slope_(table_.need({"RescaleSlope"})),
        intercept_(table_.need({"RescaleIntercept"})),
        xy_(table_.need({"XYSpacing"})),
        z_(table_.need({"ZSpacing"})),
        rows_(rows_by_id(table_, table_.need({"VolumeName"}), ignored_)) {}

  /// @return false when there is no row of the volume
  bool read(const std::string& volume, ScanCorrection& correction) const {
    const auto found = rows_.find(volume);
    if (found == rows_.end()) return false;
    const CsvRow& row = *found->second;
    const auto number = [&](std::size_t column) { return table_.number(table_.cell(row, column), row, column); };
    correction.hu_slope = number(slope_);
    correction.hu_intercept = number(intercept_);
    std::string xy = table_.cell(row, xy_);
    const std::size_t comma = xy.find(',');
    TRIPHASE_CHECK(DataError, xy.size() > 2 && xy.front() == '[' && xy.back() == ']' && comma != std::string::npos,
                   table_.place(row), "XYSpacing is '", xy, "'; expected '[x, y]'.");
    const std::size_t second = std::min(xy.find_first_not_of(' ', comma + 1), xy.size() - 1);
    correction.spacing_mm = {table_.number(xy.substr(1, comma - 1), row, xy_),
                             table_.number(xy.substr(second, xy.size() - 1 - second), row, xy_), number(z_)};
    const std::string fault = fault_of(correction);
    TRIPHASE_CHECK(DataError, fault.empty(), table_.place(row), fault, ", which no scan has.");
    for (const double spacing_mm : correction.spacing_mm)
      TRIPHASE_CHECK(DataError, spacing_mm != 0, table_.place(row), "a spacing is 0, which no scan has.");
    return true;
  }

 private:
  ImportReport ignored_;
  Table table_;
  std::size_t slope_, intercept_, xy_, z_;
  std::map<std::string, const CsvRow*> rows_;
};

/// The folder of a split's volumes. @return empty when there is none of the wanted kind
fs::path volumes_of(const fs::path& dataset, const Split& split, CtRateVolumes wanted, bool& is_raw) {
  const fs::path fixed = dataset / str(split.folder, "_fixed");
  const fs::path raw = dataset / split.folder;
  is_raw = wanted == CtRateVolumes::kRaw ||
           (wanted == CtRateVolumes::kFixedElseRaw && !fs::is_directory(fixed));
  const fs::path& folder = is_raw ? raw : fixed;
  return fs::is_directory(folder) ? folder : fs::path();
}

/// @return whether the split is there
bool import_split(const ImportOptions& options, const fs::path& dataset, const Split& split,
                  ImportedCohort& cohort, std::vector<fs::path>& label_files) {
  bool is_raw = false;
  const fs::path folder = volumes_of(dataset, split, options.volumes, is_raw);
  if (folder.empty()) return false;
  ImportReport& report = cohort.report;
  const auto scans = find_scans(folder, report);
  const Table table(options.reports.empty()
                        ? need_file(dataset / "radiology_text_reports", {str(split.table, "_reports.csv")})
                        : options.reports);
  const std::size_t findings_column = table.need({"Findings_EN"});
  const std::size_t impression_column = table.need({"Impressions_EN"});
  const auto rows = rows_by_id(table, table.need({"VolumeName"}), report);
  report.num_reports += static_cast<std::int64_t>(rows.size());
  std::optional<Corrections> corrections;
  if (is_raw) {
    corrections.emplace(need_file(dataset / "metadata", {str(split.table, "_metadata.csv")}));
    report.notes.push_back(str("Volumes of '", folder.filename().string(),
                               "' are raw: slope, intercept and spacing are those of the metadata."));
  }
  for (const auto& [id, row] : rows) {
    const auto scan = scans.find(id);
    StudyRecord study;
    study.id = id;
    study.patient_id = first_parts(id, 2);
    study.report_group = first_parts(id, 3);
    study.site = options.site.empty() ? "ct_rate" : options.site;
    study.split = split.name;
    study.report = text_of({given(table.cell(*row, findings_column)), given(table.cell(*row, impression_column))},
                           options.part);
    if (scan == scans.end()) {
      report.dropped[str("there is no scan of this name in ", folder.filename().string())].push_back(id);
    } else if (study.report_group.empty()) {
      report.dropped["the name is not <split>_<patient>_<scan>_<reconstruction>"].push_back(id);
    } else if (study.report.empty()) {
      report.dropped["the report is empty, or 'Not given.'"].push_back(id);
    } else if (is_raw && !corrections->read(id, study.correction)) {
      report.dropped["a raw volume without a row in the metadata"].push_back(id);
    } else {
      study.image = scan->second;
      cohort.manifest.records.push_back(std::move(study));
    }
  }
  for (const auto& [id, path] : scans)
    if (!rows.contains(id)) report.dropped["there is no report of this scan"].push_back(id);
  const fs::path labels =
      dataset / "multi_abnormality_labels" / str(split.folder, "_predicted_labels.csv");
  if (fs::is_regular_file(labels)) label_files.push_back(labels);
  return true;
}

/// Splits' tables have the same findings and other studies: each is joined with its own studies.
void join_split_labels(const std::vector<fs::path>& files, Manifest& manifest) {
  Manifest joined = manifest;
  for (StudyRecord& study : joined.records) study.labels.clear();
  for (const fs::path& file : files) {
    Manifest part = manifest;
    join_labels({file}, {"VolumeName"}, {}, part);
    if (joined.findings.empty()) joined.findings = part.findings;
    TRIPHASE_CHECK(DataError, joined.findings == part.findings, "'", file.string(),
                   "' has other findings than '", files.front().string(), "'. Take tables of one release.");
    for (std::size_t i = 0; i < part.records.size(); ++i) {
      std::vector<std::int8_t>& labels = joined.records[i].labels;
      labels.resize(part.findings.size(), -1);
      for (std::size_t f = 0; f < labels.size(); ++f)
        if (part.records[i].labels[f] != -1) labels[f] = part.records[i].labels[f];
    }
  }
  manifest = std::move(joined);
}

}  // namespace

CtRateVolumes ct_rate_volumes_from_name(const std::string& name) {
  if (name == "auto") return CtRateVolumes::kFixedElseRaw;
  if (name == "fixed") return CtRateVolumes::kFixed;
  if (name == "raw") return CtRateVolumes::kRaw;
  throw ConfigError(str("'", name, "' names no volumes of CT-RATE. Use auto, fixed or raw."));
}

ImportedCohort import_ct_rate(const ImportOptions& options) {
  ImportedCohort cohort;
  cohort.kept_columns = options.kept_columns;
  const fs::path dataset =
      fs::is_directory(options.folder / "dataset") ? options.folder / "dataset" : options.folder;
  std::vector<fs::path> label_files;
  bool is_any_there = false;
  for (const Split& split : kSplits)
    if (import_split(options, dataset, split, cohort, label_files)) is_any_there = true;
  TRIPHASE_CHECK_CODE(DataError, kMissingInput, is_any_there, "'", dataset.string(),
                      "' has none of the folders train_fixed, valid_fixed, train and valid that were asked "
                      "for. Name the folder that holds CT-RATE's 'dataset'.");
  join_split_labels(options.label_files.empty() ? label_files : options.label_files, cohort.manifest);
  for (const Split& split : kSplits) {
    const fs::path metadata = dataset / "metadata" / str(split.table, "_metadata.csv");
    if (options.kept_columns.empty() || !fs::is_regular_file(metadata)) continue;
    const Table table(metadata);
    ImportedCohort part{.manifest = cohort.manifest, .kept_columns = cohort.kept_columns, .report = {}};
    join_metadata(table, table.need({"VolumeName"}), part);
    for (std::size_t i = 0; i < part.manifest.records.size(); ++i)
      if (cohort.manifest.records[i].split == split.name)
        cohort.manifest.records[i].metadata = part.manifest.records[i].metadata;
  }
  cohort.report.notes.emplace_back(
      "CT-RATE has no test split: 'validation' serves for choosing and for testing, unless you divide it.");
  finish_cohort(cohort, dataset);
  return cohort;
}

}  // namespace triphase::data
