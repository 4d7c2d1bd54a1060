// SPDX-License-Identifier: Apache-2.0
#include "data/manifest.hpp"

#include "base/random.hpp"
#include "data/utf8.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

using test::expect_error;
using test::TemporaryFolder;
using test::write_text;

constexpr const char* kHeader =
    "id,patient_id,site,split,image,report,label:hcc,label:cyst,scanner\n";

Manifest manifest_of(const std::string& text) {
  const TemporaryFolder folder;
  write_text(folder / "m.csv", text);
  return read_manifest(folder / "m.csv");
}

void expect_refused(const std::string& text, std::initializer_list<std::string> words) {
  expect_error<DataError>([&] { (void)manifest_of(text); }, ExitCode::kBadData, words);
}

TEST(Manifest, AllColumnsArriveWhereTheyBelong) {
  const TemporaryFolder folder;
  write_text(folder / "m.csv",
             std::string(kHeader) +
                 "a1,p1,north,train,volumes/a1.nii.gz,\"Liver, 3 cm.\n\"\"Bright\"\".\",1,,GE\r\n"
                 "a2,p1,north,train,/abs/a2.nii.gz,,0,-1,\n"
                 "b1,p2,süd,test,b1.nii,plain,1.0,0.0,x\n");
  const Manifest manifest = read_manifest(folder / "m.csv");
  EXPECT_EQ(manifest.findings, (std::vector<std::string>{"hcc", "cyst"}));
  ASSERT_EQ(manifest.records.size(), 3U);
  const StudyRecord& first = manifest.records[0];
  EXPECT_EQ(first.id, "a1");
  EXPECT_EQ(first.patient_id, "p1");
  EXPECT_EQ(first.site, "north");
  EXPECT_EQ(first.split, "train");
  EXPECT_EQ(first.image, folder / "volumes/a1.nii.gz");
  EXPECT_EQ(first.report, "Liver, 3 cm.\n\"Bright\".");
  EXPECT_EQ(first.labels, (std::vector<std::int8_t>{1, -1}));
  EXPECT_EQ(first.metadata.at("scanner"), "GE");
  EXPECT_EQ(first.line, 2);
  EXPECT_EQ(manifest.records[1].line, 4);  // the report before it holds a line break
  EXPECT_EQ(manifest.records[1].image, "/abs/a2.nii.gz");
  EXPECT_EQ(manifest.records[1].labels, (std::vector<std::int8_t>{0, -1}));
  EXPECT_EQ(manifest.records[2].site, "süd");
  EXPECT_EQ(manifest.records[2].labels, (std::vector<std::int8_t>{1, 0}));
}

TEST(Manifest, ByteOrderMarksColumnOrderAndBlankLinesDoNotMatter) {
  const Manifest manifest =
      manifest_of("\xEF\xBB\xBFreport,image,split,site,patient_id,id\n\nr,i.nii,train,s,p,x\n\n");
  ASSERT_EQ(manifest.records.size(), 1U);
  EXPECT_EQ(manifest.records[0].id, "x");
  EXPECT_EQ(manifest.records[0].line, 3);
  EXPECT_TRUE(manifest.findings.empty());
}

TEST(Manifest, ReportsMayBeFiles) {
  const TemporaryFolder folder;
  write_text(folder / "r.txt", "From a file.");
  write_text(folder / "m.csv",
             "id,patient_id,site,split,image,report,report_path\n"
             "a,p,s,train,a.nii,,r.txt\nb,q,s,train,b.nii,inline,\n");
  const Manifest manifest = read_manifest(folder / "m.csv");
  EXPECT_EQ(manifest.records[0].report, "From a file.");
  EXPECT_EQ(manifest.records[1].report, "inline");
  write_text(folder / "gone.csv",
             "id,patient_id,site,split,image,report_path\na,p,s,train,a.nii,gone.txt\n");
  expect_error<DataError>([&] { (void)read_manifest(folder / "gone.csv"); },
                          ExitCode::kMissingInput, {"gone.txt", "gone.csv", "line 2"});
}

TEST(Manifest, EveryFaultNamesFileAndLine) {
  const std::string header(kHeader);
  const std::string good = "a,p,s,train,a.nii,r,1,0,x\n";
  expect_refused("", {"m.csv", "is empty"});
  expect_refused(header, {"m.csv", "no studies"});
  expect_refused("id,patient_id,site,split,report\n" + good, {"line 1", "no column 'image'"});
  expect_refused("id,patient_id,site,split,image\n" + good, {"line 1", "no column 'report'"});
  expect_refused("id,id,patient_id\n", {"line 1", "'id' is there twice"});
  expect_refused("id,patient_id,site,split,image,report,label:\n", {"line 1", "label:<finding>"});
  expect_refused(header + good + "b,q,s,train,b.nii,r,1,0\n", {"line 3", "8 fields", "9"});
  expect_refused(header + good + "b,q,s,train,b.nii,r,2,0,x\n", {"line 3", "label:hcc is '2'"});
  expect_refused(header + good + "b,q,s,train,b.nii,r,1,yes,x\n",
                 {"line 3", "label:cyst is 'yes'"});
  expect_refused(header + good + ",q,s,train,b.nii,r,1,0,x\n", {"line 3", "id is empty"});
  expect_refused(header + good + "b,,s,train,b.nii,r,1,0,x\n", {"line 3", "patient_id is empty"});
  expect_refused(header + good + "b,q,,train,b.nii,r,1,0,x\n", {"line 3", "site is empty"});
  expect_refused(header + good + "b,q,s,,b.nii,r,1,0,x\n", {"line 3", "split is empty"});
  expect_refused(header + good + "b,q,s,train,,r,1,0,x\n", {"line 3", "image is empty"});
  expect_refused(header + good + "a,q,s,train,b.nii,r,1,0,x\n", {"line 3", "'a'", "line 2"});
  expect_refused(header + good + "b,p,s,test,b.nii,r,1,0,x\n",
                 {"line 3", "'b'", "'test'", "'train'", "line 2", "'a'"});
  expect_refused(header + good + "b,q,s,train,b.nii,\"r,1,0,x\n", {"line 3", "not closed"});
  expect_refused(header + good + "b,q,s,train,b.nii,\"r\"r,1,0,x\n", {"line 3", "closing quote"});
  expect_refused(header + good + "b,q,s,train,b.nii,\xC3(,1,0,x\n", {"line 3", "not UTF-8"});
  expect_refused(header + good + std::string("b,q,s,train,b.nii,r\0,1,0,x\n", 26),
                 {"line 3", "zero byte"});
}

constexpr const char* kCorrected =
    "id,patient_id,site,split,image,report,report_group,spacing_z_mm,hu_slope,hu_intercept,spacing_x_mm\n";

TEST(Manifest, ScansAreCorrectedAndReportsSharedByOptionalColumns) {
  const Manifest manifest = manifest_of(std::string(kCorrected) +
                                        "a,p,s,train,a.nii,r,g,2.5,2,-1024.5,0.75\n"
                                        "b,p,s,train,b.nii,r,g,,,,\nc,q,s,test,c.nii,r,,,,-1e3,\n");
  EXPECT_EQ(manifest.records[0].report_group, "g");
  EXPECT_EQ(manifest.records[0].correction, (ScanCorrection{2, -1024.5, {0.75, 0, 2.5}}));
  EXPECT_EQ(manifest.records[1].report_group, "g");
  EXPECT_TRUE(manifest.records[1].correction.is_none());
  EXPECT_EQ(manifest.records[2].report_group, "");
  EXPECT_EQ(manifest.records[2].correction, (ScanCorrection{1, -1000, {0, 0, 0}}));
  EXPECT_TRUE(manifest.records[0].metadata.empty());
  const std::string good = std::string(kCorrected) + "a,p,s,train,a.nii,r,g,,,,\n";
  for (const auto& [row, word] : std::vector<std::pair<std::string, std::string>>{
           {"b,q,s,train,b.nii,r,,1 mm,,,", "'1 mm' is no number"},
           {"b,q,s,train,b.nii,r,,,0,,", "hu_slope is 0"},
           {"b,q,s,train,b.nii,r,,,nan,,", "hu_slope is nan"},
           {"b,q,s,train,b.nii,r,,,,inf,", "hu_intercept is inf"},
           {"b,q,s,train,b.nii,r,,-2,,,", "spacing_z_mm is -2"},
           {"b,q,s,train,b.nii,r,,,,,1e9", "spacing_x_mm is 1e+09"},
           {"b,q,s,test,b.nii,r,g,,,,", "shares its report with study 'a' of line 2"}})
    expect_refused(good + row + "\n", {"line 3", word});
}

TEST(Manifest, NoFaultNamesAPatient) {
  for (const char* fault :
       {"b,Jane-Doe,s,test,b.nii,r,1,0,x\n", "a,Jane-Doe,s,train,b.nii,r,1,0,x\n",
        "b,Jane-Doe,s,train,b.nii,r,2,0,x\n", "b,Jane-Doe,s,train\n"}) {
    try {
      (void)manifest_of(std::string(kHeader) + "a,Jane-Doe,s,train,a.nii,r,1,0,x\n" + fault);
      ADD_FAILURE() << "nothing was thrown for " << fault;
    } catch (const DataError& error) {
      EXPECT_EQ(std::string(error.what()).find("Jane"), std::string::npos) << error.what();
    }
  }
}

TEST(Manifest, AMissingManifestOrImageIsAMissingInput) {
  expect_error<DataError>([] { (void)read_manifest("/nowhere/m.csv"); }, ExitCode::kMissingInput,
                          {"/nowhere/m.csv"});
  const Manifest manifest = manifest_of(std::string(kHeader) + "a,p,s,train,a.nii,r,1,0,x\n");
  expect_error<DataError>([&] { check_images_exist(manifest); }, ExitCode::kMissingInput,
                          {"line 2", "a.nii", "'a'"});
}

TEST(Csv, TextsOfOtherProgramsAreReadOrNamed) {
  expect_error<DataError>([] { (void)parse_csv(std::string("\xFF\xFEi\0d\0", 6), "m.csv"); }, ExitCode::kBadData,
                          {"m.csv", "UTF-16"});
  expect_error<DataError>([] { (void)parse_csv("\xFE\xFF", "m.csv"); }, ExitCode::kBadData, {"UTF-16"});
  const std::string large(std::size_t{10} << 20, 'x');
  EXPECT_EQ(parse_csv("a,\"" + large + "\"\n", "m.csv")[0].fields[1].size(), large.size());
  expect_error<DataError>([&] { (void)parse_csv("a\n\"" + large + large + "\"\n", "m.csv"); }, ExitCode::kBadData,
                          {"m.csv", "line 2", "bytes"});
}

/// Random fields, quoted by csv_field(), come back as they were.
TEST(Csv, WhatCsvFieldQuotesIsParsedBack) {
  const std::string alphabet = "ab,\"\n\r ";
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    KeyedRandom random{31, seed};
    std::vector<std::vector<std::string>> rows(1 + random.below(5));
    std::string text;
    for (auto& row : rows) {
      row.resize(2 + random.below(4));
      for (std::size_t i = 0; i < row.size(); ++i) {
        for (std::uint64_t n = random.below(6); n > 0; --n) row[i] += alphabet[random.below(7)];
        text += (i == 0 ? "" : ",") + csv_field(row[i]);
      }
      text += random.chance(0.5) ? "\n" : "\r\n";
    }
    const std::vector<CsvRow> parsed = parse_csv(text, "text");
    ASSERT_EQ(parsed.size(), rows.size()) << seed;
    for (std::size_t i = 0; i < rows.size(); ++i) ASSERT_EQ(parsed[i].fields, rows[i]) << seed;
  }
}

TEST(Csv, LinesAreCountedThroughQuotedBreaks) {
  const std::vector<CsvRow> rows = parse_csv("a,\"x\ny\r\nz\"\r\nb,c\rd,\"e\"", "text");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].line, 1);
  EXPECT_EQ(rows[1].line, 4);
  EXPECT_EQ(rows[2].line, 5);
  EXPECT_EQ(rows[2].fields, (std::vector<std::string>{"d", "e"}));
}

TEST(Utf8, OnlyWellFormedTextPasses) {
  for (const char* good :
       {"", "abc", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xC0\xAF", "\xC3", "\xE0\x80\x80", "\xED\xA0\x80",
                          "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "a\xE2\x82"})
    EXPECT_FALSE(is_utf8(bad)) << bad;
}

TEST(ManifestFuzz, MutatedTextIsReadOrRefused) {
  const std::string valid =
      std::string(kHeader) +
      "a,p,s,train,a.nii,\"r, \"\"q\"\"\nline\",1,0,x\nb,q,s,test,b.nii,r,,-1,y\n";
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    KeyedRandom random{32, seed};
    std::string text = valid;
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n) {
      const std::size_t place = random.below(text.size());
      if (random.chance(0.3))
        text.erase(place, 1 + random.below(5));
      else
        text[place] =
            random.chance(0.5) ? ",\"\n\r"[random.below(4)] : static_cast<char>(random.bits());
    }
    write_text(folder / "m.csv", text);
    try {
      (void)read_manifest(folder / "m.csv");
    } catch (const DataError& error) {
      ASSERT_NE(std::string(error.what()).find("m.csv"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace triphase::data
