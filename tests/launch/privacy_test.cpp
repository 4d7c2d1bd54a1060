// SPDX-License-Identifier: Apache-2.0
// A name in a scan's header or in a column of the manifest that is not ours goes nowhere. DICOM's tags: dicom_test.cpp;
// the tables of cache import: import_test.cpp.
#include "tests/launch/program_fixture.hpp"

#include <fstream>
#include <sstream>

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlanted = "PLANTED^ROSA";

/// NIfTI's fields of free text: place and size in the header.
constexpr std::pair<std::size_t, std::size_t> kTexts[] = {
    {4, 10} /*data_type*/, {14, 18} /*db_name*/, {148, 80} /*descrip*/, {228, 24} /*aux_file*/, {328, 16} /*intent_name*/};

/// The tiny cohort's first volumes and reports, with the name in every field of text and in a column of its own.
fs::path plant(const fs::path& folder) {
  std::ifstream given(tiny_cohort().manifest());
  std::ostringstream manifest;
  std::string line;
  for (int row = 0; std::getline(given, line); ++row) {
    if (row == 0) {
      manifest << line << ",patient_name\n";
      continue;
    }
    const std::size_t begin = line.find("volumes/");
    const std::size_t end = line.find(".nii.gz", begin);
    const std::string name = line.substr(begin, end - begin);
    fs::create_directories((folder / name).parent_path());
    expect_outcome(run_command("gzip -dc " + (tiny_cohort().folder / "cohort" / (name + ".nii.gz")).string() + " > " +
                               (folder / (name + ".nii")).string()),
                   0, {});
    std::string bytes = read_text(folder / (name + ".nii"));
    for (const auto& [place, size] : kTexts) {
      const std::string text = std::string(kPlanted).substr(0, size);
      bytes.replace(place, text.size(), text);
    }
    write_text(folder / (name + ".nii"), bytes);
    manifest << line.substr(0, end) << ".nii" << line.substr(end + 7) << "," << kPlanted << "\n";
  }
  write_text(folder / "manifest.csv", manifest.str());
  fs::copy(tiny_cohort().folder / "cohort" / "tokenizer", folder / "tokenizer", fs::copy_options::recursive);
  return folder / "manifest.csv";
}

TEST(Privacy, PlantedNamesReachNoFileAndNoLine) {
  const TemporaryFolder folder;
  const fs::path manifest = plant(folder / "cohort");
  const fs::path out = folder / "out";
  fs::create_directories(out);
  const fs::path file = write_run_file(
      out, "run",
      {{"data.cache", "\"" + (out / "cache").string() + "\""}, {"schedule.max_steps", "3"}, {"run.output_dir", "\"" + (out / "runs").string() + "\""}});
  const std::string config = " --config " + file.string();
  const fs::path run = out / "runs" / "run";
  std::string printed;
  const auto call = [&](const std::string& arguments, int num_ranks) {
    const CommandResult result = triphase(arguments, num_ranks);
    expect_outcome(result, 0, {});
    printed += result.output;
  };
  call("cache build --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --set 'preprocess.spacing_mm=[11.2,11.2,12.0]' "
       "--manifest " + manifest.string() + " --out " + (out / "cache").string(), 2);
  call("cache verify " + (out / "cache").string(), 1);
  call("cache show " + (out / "cache").string() + " --html " + (out / "slices.html").string(), 1);
  call("train" + config, 2);
  call("evaluate" + config + " --checkpoint " + run.string(), 2);
  call("embed --split test" + config + " --checkpoint " + run.string() + " --out " + (out / "embeddings.h5").string(), 1);
  call("report " + run.string(), 1);

  EXPECT_EQ(printed.find(kPlanted), std::string::npos) << printed;
  int num_files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(out)) {
    if (!entry.is_regular_file()) continue;
    ++num_files;
    EXPECT_EQ(read_text(entry.path()).find(kPlanted), std::string::npos) << entry.path();
  }
  EXPECT_GT(num_files, 12) << "cache, page, run folder, logs, evaluation and report";
}

}  // namespace
}  // namespace triphase::test
