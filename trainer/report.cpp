// SPDX-License-Identifier: Apache-2.0
#include "trainer/report.hpp"

#include "base/file.hpp"
#include "trainer/report/data_table.hpp"
#include "trainer/report/figures.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/summary.hpp"
#include "trainer/report/tables.hpp"

#include <filesystem>

namespace triphase::trainer {
namespace {

namespace fs = std::filesystem;

/// A file a table; what an earlier page left under these names is gone.
void write_csv_files(const fs::path& folder, const Json& figures) {
  make_output_directory(folder);
  for (const std::string& name : table_names()) {
    const fs::path file = folder / (name + ".csv");
    if (const Json* table = find_table(figures, name))
      write_file_atomically(file, csv_text(*table));
    else
      fs::remove(file);
  }
}

/// A study's folder stands for the runs of its cells that are done.
std::vector<std::string> runs_in(const std::vector<std::string>& folders) {
  std::vector<std::string> runs;
  for (const std::string& folder : folders) {
    if (!fs::exists(fs::path(folder) / "study.json")) {
      runs.push_back(folder);
      continue;
    }
    const Json study = read_json(fs::path(folder) / "study.json");
    const std::size_t before = runs.size();
    for (const Json& cell : study.at("cells"))
      if (cell.at("status") == "done") runs.push_back((fs::path(folder) / cell.at("name").get<std::string>()).string());
    TRIPHASE_CHECK_CODE(DataError, kMissingInput, runs.size() > before, "study folder '", folder,
                        "' has no cell that is done, so there is nothing to report. Run the study first.");
  }
  return runs;
}

}  // namespace

std::string write_report(const std::vector<std::string>& run_dirs, const std::string& out) {
  TRIPHASE_CHECK(ConfigError, !run_dirs.empty(), "a report needs one run folder at least");
  const fs::path page(out);
  const fs::path data = fs::path(page).replace_extension(".json");
  TRIPHASE_CHECK(ConfigError, page.has_filename() && page != data, "the report's file '", out,
                 "' must end in .html; its figures go beside it as .json");
  const fs::path folder = page.parent_path() / (page.stem().string() + "_figures");
  std::vector<ReportRun> runs;
  Json figures;
  std::string html;
  std::string summary;
  try {
    for (const std::string& run_dir : runs_in(run_dirs)) runs.push_back(read_report_run(run_dir));
    figures = report_figures(runs);
    figures["folder"] = folder.filename().string();
    html = report_page(figures);
    summary = report_summary(figures);
  } catch (const Json::exception& error) {
    throw DataError(str("a run folder holds JSON of another form than Triphase writes (",
                        error.what(), "). Train or evaluate that run again."));
  }
  if (page.has_parent_path()) make_output_directory(page.parent_path());
  write_json(data, figures);
  write_csv_files(folder, figures);
  write_file_atomically(page, html);
  return summary;
}

}  // namespace triphase::trainer
