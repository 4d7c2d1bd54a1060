// SPDX-License-Identifier: Apache-2.0
// From a public layout to a verified cache, as a user does it; and what must not travel along.
#include "tests/launch/program_fixture.hpp"

#include <algorithm>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;
constexpr const char* kPlanted = "PLANTED^ROSA";

/// Every file below a folder that holds the word.
std::vector<std::string> files_with(const fs::path& folder, const std::string& word) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && read_text(entry.path()).find(word) != std::string::npos)
      found.push_back(entry.path().filename().string());
  return found;
}

/// Three scans of the tiny cohort in Merlin's layout, with a name in every table.
void make_merlin_layout(const fs::path& folder) {
  fs::create_directories(folder / "merlin_data");
  std::vector<fs::path> volumes;
  for (const auto& entry : fs::recursive_directory_iterator(tiny_cohort().folder / "cohort"))
    if (entry.path().string().ends_with(".nii.gz")) volumes.push_back(entry.path());
  std::sort(volumes.begin(), volumes.end());
  for (int i = 0; i < 3; ++i)
    fs::copy_file(volumes.at(static_cast<std::size_t>(i)), folder / "merlin_data" / ("AC" + std::to_string(i) + ".nii.gz"));
  const std::string name(kPlanted);
  write_text(folder / "reports_final.csv", "study id,Findings,Split,Patient Name\nAC0,Liver normal. IMPRESSION: Fine.,train," + name +
                                               "\nAC1,Liver lesion.,val," + name + "\nAC2,Cyst.,test," + name + "\nAC9,No scan.,test," + name + "\n");
  write_text(folder / "zero_shot_findings_disease_cls.csv", "study id,hcc\nAC0,0\nAC1,1\nAC2,-1\n");
  write_text(folder / "metadata.csv", "study id,age,patientname\nAC0,50," + name + "\n");
}

TEST(CacheImport, MerlinsLayoutBecomesAVerifiedCacheWithoutNames) {
  const TemporaryFolder folder;
  make_merlin_layout(folder / "layout");
  const fs::path out = folder / "out";
  const std::string manifest = (out / "merlin.csv").string();
  const CommandResult imported =
      triphase("cache import merlin " + (folder / "layout").string() + " --keep age --out " + manifest);
  expect_outcome(imported, 0, {"scans                3", "reports              4", "studies              3", "  train              1",
                               "dropped              1  there is no scan of this name in merlin_data: AC9",
                               "note: This layout names no patients"});
  const Json report = read_json(manifest + ".import.json");
  EXPECT_EQ(report.at("studies"), 3);
  EXPECT_EQ(report.at("findings"), Json({"hcc"}));
  EXPECT_EQ(report.at("dropped").at("there is no scan of this name in merlin_data"), Json({"AC9"}));
  const std::string cache = (out / "cache").string();
  const CommandResult built = triphase("cache build --preset phantom --manifest " + manifest + " --out " + cache +
                                       " --tokenizer " + (tiny_cohort().folder / "cohort/tokenizer").string());
  expect_outcome(built, 0, {"volumes", "built"});
  const CommandResult verified = triphase("cache verify " + cache);
  expect_outcome(verified, 0, {"3 volumes, every hash is right"});
  EXPECT_FALSE(files_with(folder / "layout", kPlanted).empty());
  EXPECT_EQ(files_with(out, kPlanted), std::vector<std::string>());
  for (const CommandResult* result : {&imported, &built, &verified})
    EXPECT_EQ(result->output.find(kPlanted), std::string::npos);
}

TEST(CacheImport, BadInputEndsWithItsCodeAndLeavesNothing) {
  const TemporaryFolder folder;
  const std::string out = " --out " + (folder / "m.csv").string();
  expect_outcome(triphase("cache import nifti " + folder.path().string() + out), 64, {"'nifti'", "merlin, ct_rate or folder"});
  expect_outcome(triphase("cache import merlin" + out), 64, {});
  expect_outcome(triphase("cache import folder " + folder.path().string()), 64, {"--out"});
  expect_outcome(triphase("cache import folder x --report-part all" + out), 64, {"'all'", "whole, findings or impression"});
  expect_outcome(triphase("cache import ct_rate x --volumes all" + out), 64, {"'all'", "auto, fixed or raw"});
  expect_outcome(triphase("cache import folder " + (folder / "gone").string() + out), 66, {"gone"});
  expect_outcome(triphase("cache import folder " + folder.path().string() + out), 65, {"could be joined"});
  expect_outcome(triphase("cache import folder x" + out, 2), 64, {"one rank"});
  make_merlin_layout(folder / "layout");
  write_text(folder / "layout/reports_final.xlsx", "PK, but no zip");
  expect_outcome(triphase("cache import merlin " + (folder / "layout").string() + out), 65, {"reports_final.xlsx", "no workbook"});
  EXPECT_FALSE(fs::exists(folder / "m.csv"));
}

}  // namespace
}  // namespace triphase::test
