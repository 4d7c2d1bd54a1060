// SPDX-License-Identifier: Apache-2.0
// Tables and layouts as they are published, and what becomes of them.
#include <algorithm>

#include "base/json.hpp"
#include "data/import/cohort.hpp"
#include "data/import/join.hpp"
#include "data/import/xlsx.hpp"
#include "data/nifti.hpp"
#include "tests/data/nifti_bytes.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TemporaryFolder;
using test::write_text;
using Ids = std::vector<std::string>;

const std::string kScan = test::nifti_bytes({3, 2, 2});

void write_scan(const fs::path& path) {
  fs::create_directories(path.parent_path());
  write_text(path, kScan);
}

void write_file(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  write_text(path, text);
}

Ids ids_of(const Manifest& manifest) {
  Ids ids;
  for (const StudyRecord& study : manifest.records) ids.push_back(study.id);
  return ids;
}

const StudyRecord& study_of(const Manifest& manifest, const std::string& id) {
  const auto found = std::find_if(manifest.records.begin(), manifest.records.end(),
                                  [&](const StudyRecord& study) { return study.id == id; });
  if (found == manifest.records.end()) throw std::runtime_error("there is no study " + id);
  return *found;
}

/// All reasons with their ids, "reason: id id".
std::string dropped_text(const ImportReport& report) {
  std::string text;
  for (const auto& [reason, ids] : report.dropped) {
    text += reason + ":";
    for (const std::string& id : ids) text += " " + id;
    text += "\n";
  }
  return text;
}

TEST(Xlsx, GoldenWorkbooksAreReadAsOpenpyxlReadsThem) {
  for (const char* name : {"reports_final", "cells", "inline"}) {
    SCOPED_TRACE(name);
    const Json wanted = read_json(test::golden_folder() / "tables" / (std::string(name) + ".json"));
    const std::vector<CsvRow> rows = read_xlsx(test::golden_folder() / "tables" / (std::string(name) + ".xlsx"));
    ASSERT_EQ(rows.size(), wanted.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].line, wanted[i].at("line").get<std::int64_t>());
      EXPECT_EQ(rows[i].fields, wanted[i].at("fields").get<std::vector<std::string>>());
    }
  }
}

/// As Excel writes a carriage return, and openpyxl does not.
TEST(Xlsx, ControlCharactersAreReadAsExcelWritesThem) {
  const std::vector<CsvRow> rows = read_xlsx(test::source_folder() / "tests/fuzz/corpus/xlsx/ok-plain");
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].fields, (Ids{"study id", "", "x\ry"}));
}

TEST(Xlsx, LimitsAreNamedBeforeMemoryIsTaken) {
  const fs::path book = test::golden_folder() / "tables" / "cells.xlsx";
  for (const auto& [limits, word] : std::vector<std::pair<XlsxLimits, std::string>>{
           {{.max_part_bytes = 300}, "more than the 300"},
           {{.max_text_bytes = 20000}, "more than 20000 bytes"},
           {{.max_cells = 20}, "more than 20 cells"}})
    expect_error<DataError>([&] { (void)read_xlsx(book, limits); }, ExitCode::kBadData, {"cells.xlsx", word});
  expect_error<DataError>([] { (void)read_xlsx("/nowhere/t.xlsx"); }, ExitCode::kMissingInput, {"t.xlsx"});
}

TEST(ImportTable, ColumnsAreFoundWhateverTheirSpelling) {
  const TemporaryFolder folder;
  write_text(folder / "t.csv", "\xEF\xBB\xBFStudy_ID,Find-ings,x\n a ,\" b \",\nc\n");
  const Table table(folder / "t.csv");
  EXPECT_EQ(table.need({"study id"}), 0U);
  EXPECT_EQ(table.find({"nothing", "FINDINGS"}), 1U);
  EXPECT_EQ(table.find({"y"}), std::nullopt);
  EXPECT_EQ(table.cell(table.rows()[0], 0), "a");
  EXPECT_EQ(table.cell(table.rows()[0], 1), "b");
  EXPECT_EQ(table.cell(table.rows()[1], 2), "");
  expect_error<DataError>([&] { (void)table.need({"split"}); }, ExitCode::kBadData,
                          {"t.csv", "'split'", "'Study_ID', 'Find-ings', 'x'"});
  write_text(folder / "long.csv", "a,b\n1,2,3\n");
  expect_error<DataError>([&] { Table{folder / "long.csv"}; }, ExitCode::kBadData, {"long.csv", "line 2", "3 fields"});
  write_text(folder / "latin.csv", "a,b\n1,\xE9\n");
  expect_error<DataError>([&] { Table{folder / "latin.csv"}; }, ExitCode::kBadData, {"latin.csv", "line 2", "UTF-8"});
}

TEST(ImportReportText, PartsAreWhatTheMarkerDivides) {
  for (const auto& [text, findings, impression] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"F. IMPRESSION: I.", "F.", "I."}, {" F.\nImpression:\nI. ", "F.", "I."}, {"F.", "F.", ""},
           {"IMPRESSION: I.", "", "I."}, {"F. impression: I. Impression: J.", "F.", "I. Impression: J."}, {"", "", ""}}) {
    const ReportText parts = split_at_impression(text);
    EXPECT_EQ(parts.findings, findings);
    EXPECT_EQ(parts.impression, impression);
  }
  const ReportText both{"F.", "I."};
  EXPECT_EQ(text_of(both, ReportPart::kWhole), "F.\nIMPRESSION: I.");
  EXPECT_EQ(text_of(both, ReportPart::kFindings), "F.");
  EXPECT_EQ(text_of(both, ReportPart::kImpression), "I.");
  EXPECT_EQ(text_of({"F.", ""}, ReportPart::kWhole), "F.");
  EXPECT_EQ(text_of({"", "I."}, ReportPart::kWhole), "I.");
}

/// Merlin's layout with the golden workbook, scans of five of its studies and one that it does not have.
class MerlinLayout : public ::testing::Test {
 protected:
  MerlinLayout() {
    fs::copy_file(test::golden_folder() / "tables" / "reports_final.xlsx", folder_ / "reports_final.xlsx");
    for (const char* id : {"AC001", "AC002", "AC003", "AC004", "AC005", "AC777"})
      write_scan(folder_ / "merlin_data" / (std::string(id) + ".nii.gz"));
    write_text(folder_ / "zero_shot_findings_disease_cls.csv",
               "study id,hepatic lesion,ascites\nAC001,1,0\nAC002,0,-1\nAC005,,1\nAC999,1,1\n");
    write_text(folder_ / "metadata.csv", "study id,age,name\nAC001,61,PLANTED^ROSA\nAC003,40,PLANTED^ROSA\n");
    options_.folder = folder_.path();
  }
  TemporaryFolder folder_;
  ImportOptions options_;
};

TEST_F(MerlinLayout, StudiesAreJoinedAndTheRestIsToldWithReasons) {
  const ImportedCohort cohort = import_merlin(options_);
  EXPECT_EQ(ids_of(cohort.manifest), (Ids{"AC001", "AC002", "AC003", "AC005"}));
  EXPECT_EQ(cohort.report.num_images, 6);
  EXPECT_EQ(cohort.report.num_reports, 7);
  EXPECT_EQ(dropped_text(cohort.report),
            "a later row of 'reports_final.xlsx' with this id: AC001\n"
            "the report is empty: AC004\n"
            "there is no report of this scan: AC777\n"
            "there is no scan of this name in merlin_data: AC999\n");
  const StudyRecord& first = study_of(cohort.manifest, "AC001");
  EXPECT_EQ(first.report, "Liver: 3 cm lesion,\nsegment \"VII\".\nIMPRESSION: Suspicious for HCC.");
  EXPECT_EQ(first.split, "train");
  EXPECT_EQ(first.site, "merlin");
  EXPECT_EQ(first.patient_id, "AC001");
  EXPECT_EQ(study_of(cohort.manifest, "AC002").split, "validation");
  EXPECT_EQ(cohort.manifest.findings, (Ids{"hepatic lesion", "ascites"}));
  EXPECT_EQ(first.labels, (std::vector<std::int8_t>{1, 0}));
  EXPECT_EQ(study_of(cohort.manifest, "AC002").labels, (std::vector<std::int8_t>{0, -1}));
  EXPECT_EQ(study_of(cohort.manifest, "AC003").labels, (std::vector<std::int8_t>{-1, -1}));
  EXPECT_EQ(study_of(cohort.manifest, "AC005").labels, (std::vector<std::int8_t>{-1, 1}));
  ASSERT_EQ(cohort.report.notes.size(), 1U);
  EXPECT_NE(cohort.report.notes[0].find("no patients"), std::string::npos);
}

TEST_F(MerlinLayout, TheManifestReadsBackAndHoldsNothingThatWasNotAskedFor) {
  options_.part = ReportPart::kImpression;
  options_.kept_columns = {"age"};
  const ImportedCohort cohort = import_merlin(options_);
  EXPECT_EQ(ids_of(cohort.manifest), (Ids{"AC001", "AC002", "AC005"}));  // AC003 has no impression
  const fs::path path = folder_ / "lists/merlin.csv";
  write_manifest(path, cohort);
  const Manifest read = read_manifest(path);
  ASSERT_EQ(read.records.size(), cohort.manifest.records.size());
  EXPECT_EQ(read.findings, cohort.manifest.findings);
  for (std::size_t i = 0; i < read.records.size(); ++i) {
    const StudyRecord& got = read.records[i];
    const StudyRecord& wanted = cohort.manifest.records[i];
    EXPECT_EQ(got.id, wanted.id);
    EXPECT_EQ(got.report, wanted.report);
    EXPECT_EQ(got.labels, wanted.labels);
    EXPECT_TRUE(has_image(got)) << got.image;
    EXPECT_EQ(got.metadata.at("age"), wanted.id == "AC001" ? "61" : "");
  }
  EXPECT_EQ(test::read_text(path).find("PLANTED"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "lists/merlin.csv.unread"));
}

TEST_F(MerlinLayout, WhatIsMissingOrWrongIsNamed) {
  options_.kept_columns = {"shoe size"};
  expect_error<DataError>([&] { (void)import_merlin(options_); }, ExitCode::kBadData, {"metadata.csv", "'shoe size'"});
  options_.kept_columns.clear();
  write_text(folder_ / "zero_shot_findings_disease_cls.csv", "study id,ascites\nAC001,2\n");
  expect_error<DataError>([&] { (void)import_merlin(options_); }, ExitCode::kBadData,
                          {"zero_shot", "line 2", "'ascites' is '2'"});
  fs::remove(folder_ / "zero_shot_findings_disease_cls.csv");
  write_text(folder_ / "r.csv", "study id,Findings,Split\nAC001,text,holdout\n");
  options_.reports = folder_ / "r.csv";
  expect_error<DataError>([&] { (void)import_merlin(options_); }, ExitCode::kBadData, {"r.csv", "line 2", "holdout"});
  write_text(folder_ / "r.csv", "study id,Findings,Split\nXY,text,train\n");
  expect_error<DataError>([&] { (void)import_merlin(options_); }, ExitCode::kBadData, {"6 scans, 1 reports"});
  options_.reports.clear();
  fs::remove(folder_ / "reports_final.xlsx");
  expect_error<DataError>([&] { (void)import_merlin(options_); }, ExitCode::kMissingInput, {"reports_final.xlsx", "reports_final.csv"});
  options_.folder = folder_ / "gone";
  expect_error<DataError>([&] { (void)import_merlin(options_); }, ExitCode::kMissingInput, {"gone"});
}

/// CT-RATE's layout: two volumes of one scan and one of another, raw and repaired.
class CtRateLayout : public ::testing::Test {
 protected:
  CtRateLayout() {
    for (const char* kind : {"train", "train_fixed"}) {
      write_scan(data_ / kind / "train_1/train_1_a/train_1_a_1.nii.gz");
      write_scan(data_ / kind / "train_1/train_1_a/train_1_a_2.nii.gz");
    }
    write_scan(data_ / "valid/valid_7/valid_7_b/valid_7_b_1.nii.gz");
    write_scan(data_ / "valid/valid_8/valid_8_a/valid_8_a_1.nii.gz");
    const std::string header = "VolumeName,ClinicalInformation_EN,Technique_EN,Findings_EN,Impressions_EN\n";
    write_file(data_ / "radiology_text_reports/train_reports.csv",
               header + "train_1_a_1.nii.gz,PLANTED,t,Nodule.,Follow up.\ntrain_1_a_2.nii.gz,c,t,Nodule.,Follow up.\n");
    write_file(data_ / "radiology_text_reports/validation_reports.csv",
               header + "valid_7_b_1.nii.gz,c,t,Not given.,Normal.\nvalid_8_a_1.nii.gz,c,t,Not given.,Not given.\n");
    const std::string columns = "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing\n";
    write_file(data_ / "metadata/train_metadata.csv",
               columns + "train_1_a_1.nii.gz,-1024.0,1.0,\"[0.75, 0.7]\",1.5\n"
                         "train_1_a_2.nii.gz,-8192,2,\"[0.5, 0.5]\",3.0\n");
    write_file(data_ / "metadata/validation_metadata.csv", columns + "valid_7_b_1.nii.gz,0,1,\"[1.0, 1.0]\",2\n");
    write_file(data_ / "multi_abnormality_labels/train_predicted_labels.csv",
               "VolumeName,Emphysema,Lung nodule\ntrain_1_a_1.nii.gz,0,1\ntrain_1_a_2.nii.gz,0,1\n");
    write_file(data_ / "multi_abnormality_labels/valid_predicted_labels.csv",
               "VolumeName,Emphysema,Lung nodule\nvalid_7_b_1.nii.gz,1,0\n");
    options_.folder = folder_.path();
  }
  TemporaryFolder folder_;
  fs::path data_ = folder_ / "dataset";
  ImportOptions options_;
};

TEST_F(CtRateLayout, RepairedVolumesAreTakenAsTheyAreAndRawOnesCorrected) {
  ImportedCohort cohort = import_ct_rate(options_);
  EXPECT_EQ(ids_of(cohort.manifest), (Ids{"train_1_a_1", "train_1_a_2", "valid_7_b_1"}));
  EXPECT_EQ(dropped_text(cohort.report), "the report is empty, or 'Not given.': valid_8_a_1\n");
  const StudyRecord& repaired = study_of(cohort.manifest, "train_1_a_1");
  EXPECT_EQ(repaired.image, data_ / "train_fixed/train_1/train_1_a/train_1_a_1.nii.gz");
  EXPECT_TRUE(repaired.correction.is_none());
  EXPECT_EQ(repaired.patient_id, "train_1");
  EXPECT_EQ(repaired.report_group, "train_1_a");
  EXPECT_EQ(study_of(cohort.manifest, "train_1_a_2").report_group, "train_1_a");
  EXPECT_EQ(repaired.report, "Nodule.\nIMPRESSION: Follow up.");
  const StudyRecord& raw = study_of(cohort.manifest, "valid_7_b_1");
  EXPECT_EQ(raw.split, "validation");
  EXPECT_EQ(raw.report, "Normal.");
  EXPECT_EQ(raw.correction, (ScanCorrection{1, 0, {1, 1, 2}}));
  EXPECT_EQ(cohort.manifest.findings, (Ids{"Emphysema", "Lung nodule"}));
  EXPECT_EQ(raw.labels, (std::vector<std::int8_t>{1, 0}));
  EXPECT_EQ(repaired.labels, (std::vector<std::int8_t>{0, 1}));

  options_.volumes = CtRateVolumes::kRaw;
  cohort = import_ct_rate(options_);
  EXPECT_EQ(study_of(cohort.manifest, "train_1_a_1").correction, (ScanCorrection{1, -1024, {0.75, 0.7, 1.5}}));
  EXPECT_EQ(study_of(cohort.manifest, "train_1_a_2").correction, (ScanCorrection{2, -8192, {0.5, 0.5, 3}}));
  write_manifest(folder_ / "m.csv", cohort);
  const Manifest read = read_manifest(folder_ / "m.csv");
  for (std::size_t i = 0; i < read.records.size(); ++i) {
    EXPECT_EQ(read.records[i].correction, cohort.manifest.records[i].correction);
    EXPECT_EQ(read.records[i].report_group, cohort.manifest.records[i].report_group);
  }
  EXPECT_EQ(test::read_text(folder_ / "m.csv").find("PLANTED"), std::string::npos);

  options_.volumes = CtRateVolumes::kFixed;
  cohort = import_ct_rate(options_);
  EXPECT_EQ(ids_of(cohort.manifest), (Ids{"train_1_a_1", "train_1_a_2"}));
}

TEST_F(CtRateLayout, WhatIsMissingOrWrongIsNamed) {
  options_.volumes = CtRateVolumes::kRaw;
  const fs::path metadata = data_ / "metadata/train_metadata.csv";
  const std::string columns = "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing\n";
  for (const auto& [row, word] : std::vector<std::pair<std::string, std::string>>{
           {"train_1_a_1.nii.gz,-1024,1,0.75,1.5", "XYSpacing is '0.75'"},
           {"train_1_a_1.nii.gz,-1024,1,\"[0.75, x]\",1.5", "'x'; expected a number"},
           {"train_1_a_1.nii.gz,-1024,1,\"[0.75, 0]\",1.5", "spacing is 0"},
           {"train_1_a_1.nii.gz,-1024,1,\"[0.75, 0.7]\",-1", "spacing_z_mm is -1"},
           {"train_1_a_1.nii.gz,nan,1,\"[0.75, 0.7]\",1", "'nan'; expected a number"},
           {"train_1_a_1.nii.gz,-1024,0,\"[0.75, 0.7]\",1", "hu_slope is 0"}}) {
    write_text(metadata, columns + row + "\n");
    expect_error<DataError>([&] { (void)import_ct_rate(options_); }, ExitCode::kBadData,
                            {"train_metadata.csv", "line 2", word});
  }
  write_text(metadata, columns + "train_1_a_1.nii.gz,-1024,1,\"[0.75, 0.7]\",1\n");
  EXPECT_NE(dropped_text(import_ct_rate(options_).report).find("without a row in the metadata: train_1_a_2"),
            std::string::npos);
  fs::remove(metadata);
  expect_error<DataError>([&] { (void)import_ct_rate(options_); }, ExitCode::kMissingInput, {"train_metadata.csv"});
  options_.folder = folder_ / "metadata";
  expect_error<DataError>([&] { (void)import_ct_rate(options_); }, ExitCode::kMissingInput, {"train_fixed"});
}

TEST(FolderLayout, TextsBesideScansMakeACohort) {
  const TemporaryFolder folder;
  write_scan(folder / "a/one.nii.gz");
  write_text(folder / "a/one.txt", "One. Impression: Fine.");
  write_scan(folder / "b/two.nii");
  write_file(folder / "b/two.txt", "Two.");
  write_scan(folder / "b/three.nii");
  write_scan(folder / "c/two.nii.gz");
  write_file(folder / "series/0001.dcm", "a slice");
  write_file(folder / "series/0002.dcm", "a slice");
  write_text(folder / "series.txt", "A series.");
  ImportOptions options{.folder = folder.path(), .site = "north"};
  const ImportedCohort cohort = import_folder(options);
  EXPECT_EQ(ids_of(cohort.manifest), (Ids{"one", "series", "two"}));
  EXPECT_EQ(study_of(cohort.manifest, "series").image, folder / "series");
  EXPECT_EQ(study_of(cohort.manifest, "two").image, folder / "b/two.nii");
  EXPECT_EQ(study_of(cohort.manifest, "one").site, "north");
  EXPECT_EQ(dropped_text(cohort.report),
            "another scan has this name, in another folder: two\n"
            "there is no text file of the same name beside the scan: three\n");
  write_text(folder / "b/two.txt", "caf\xE9");
  expect_error<DataError>([&] { (void)import_folder(options); }, ExitCode::kBadData, {"two.txt", "UTF-8"});
}

TEST(FolderLayout, ATableBringsWhatItHasAndPatientsAreDividedByTheirHash) {
  const TemporaryFolder folder;
  std::string text = "image,patient_id,findings,impression,label:hcc,age,name\n";
  for (int i = 0; i < 400; ++i) {
    write_scan(folder / str("scans/s", i, ".nii.gz"));
    text += str("s", i, ".nii.gz,p", i / 2, ",Liver ", i, ".,I.,", i % 2, ",", 30 + i % 50, ",PLANTED\n");
  }
  write_text(folder / "reports.csv", text);
  const ImportOptions options{.folder = folder / "scans", .site = "north", .reports = folder / "reports.csv",
                              .kept_columns = {"age"}};
  const ImportedCohort cohort = import_folder(options);
  ASSERT_EQ(cohort.manifest.records.size(), 400U);
  std::map<std::string, int> splits;
  for (const StudyRecord& study : cohort.manifest.records) ++splits[study.split];
  EXPECT_NEAR(splits["train"], 320, 40);
  EXPECT_NEAR(splits["validation"], 40, 30);
  EXPECT_NEAR(splits["test"], 40, 30);
  write_manifest(folder / "m.csv", cohort);  // reads it back: patients are in one split each
  EXPECT_EQ(test::read_text(folder / "m.csv").find("PLANTED"), std::string::npos);
  EXPECT_EQ(study_of(cohort.manifest, "s3").report, "Liver 3.\nIMPRESSION: I.");
  EXPECT_EQ(study_of(cohort.manifest, "s3").labels, (std::vector<std::int8_t>{1}));
  const ImportedCohort again = import_folder(options);
  for (std::size_t i = 0; i < again.manifest.records.size(); ++i)
    EXPECT_EQ(again.manifest.records[i].split, cohort.manifest.records[i].split);
}

TEST(WriteManifest, NothingIsWrittenThatCouldNotBeReadBack) {
  const TemporaryFolder folder;
  write_scan(folder / "a.nii");
  ImportedCohort cohort;
  for (const char* split : {"train", "test"}) {
    StudyRecord study;
    study.id = std::string("study-") + split;
    study.patient_id = "p";
    study.site = "s";
    study.split = split;
    study.image = folder / "a.nii";
    study.report = "r";
    cohort.manifest.records.push_back(study);
  }
  write_text(folder / "m.csv", "what was there");
  expect_error<DataError>([&] { write_manifest(folder / "m.csv", cohort); }, ExitCode::kBadData,
                          {"one split", "nothing was written"});
  EXPECT_EQ(test::read_text(folder / "m.csv"), "what was there");
  EXPECT_FALSE(fs::exists(folder / "m.csv.unread"));
}

}  // namespace
}  // namespace triphase::data
