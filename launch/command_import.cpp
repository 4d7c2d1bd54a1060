// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "data/import/cohort.hpp"
#include "launch/command.hpp"

#include <cstdio>

namespace triphase::launch {
namespace {

using Importer = data::ImportedCohort (*)(const data::ImportOptions&);

Importer importer_of(const std::string& layout) {
  if (layout == "merlin") return data::import_merlin;
  if (layout == "ct_rate") return data::import_ct_rate;
  if (layout == "folder") return data::import_folder;
  throw ConfigError(str("'", layout, "' is no layout that is known. Use merlin, ct_rate or folder."));
}

/// Studies of each split, in the order of their names.
std::map<std::string, std::int64_t> count_splits(const data::Manifest& manifest) {
  std::map<std::string, std::int64_t> counts;
  for (const data::StudyRecord& study : manifest.records) ++counts[study.split];
  return counts;
}

Json report_json(const data::ImportedCohort& cohort) {
  Json dropped = Json::object();
  for (const auto& [reason, ids] : cohort.report.dropped) dropped[reason] = ids;
  return {{"scans", cohort.report.num_images},
          {"reports", cohort.report.num_reports},
          {"studies", cohort.manifest.records.size()},
          {"studies_of_split", count_splits(cohort.manifest)},
          {"findings", cohort.manifest.findings},
          {"dropped", dropped},
          {"notes", cohort.report.notes}};
}

void print_report(const data::ImportedCohort& cohort, const std::string& out, const std::string& report_file) {
  const auto row = [](const std::string& name, std::int64_t count, const std::string& note) {
    std::printf("  %-12s %9lld  %s\n", name.c_str(), static_cast<long long>(count), note.c_str());
  };
  std::printf("%s\n", out.c_str());
  row("scans", cohort.report.num_images, "found");
  row("reports", cohort.report.num_reports, "found");
  row("studies", std::ssize(cohort.manifest.records), "joined and written");
  for (const auto& [split, count] : count_splits(cohort.manifest)) row("  " + split, count, "");
  row("findings", std::ssize(cohort.manifest.findings), "with labels");
  for (const auto& [reason, ids] : cohort.report.dropped) {
    std::string examples;
    for (std::size_t i = 0; i < std::min<std::size_t>(ids.size(), 3); ++i) examples += (i > 0 ? ", " : "") + ids[i];
    row("dropped", std::ssize(ids), reason + ": " + examples + (ids.size() > 3 ? ", ..." : ""));
  }
  for (const std::string& note : cohort.report.notes) std::printf("  note: %s\n", note.c_str());
  std::printf("  all of it in %s\n", report_file.c_str());
}

Action prepare(const Arguments& arguments, dist::Runtime& runtime) {
  TRIPHASE_CHECK(ConfigError, runtime.num_ranks() == 1,
                 "triphase cache import runs on one rank: it reads tables, not voxels. Start it without mpirun.");
  const Importer importer = importer_of(arguments.positionals[0]);
  data::ImportOptions options;
  options.folder = arguments.positionals[1];
  options.site = arguments.text("site");
  options.part = data::report_part_from_name(arguments.text("report-part", "whole"));
  options.reports = arguments.text("reports");
  for (const std::string& file : arguments.all("labels")) options.label_files.emplace_back(file);
  options.kept_columns = arguments.all("keep");
  options.volumes = data::ct_rate_volumes_from_name(arguments.text("volumes", "auto"));
  const std::string out = arguments.text("out");
  return [=] {
    const data::ImportedCohort cohort = importer(options);
    data::write_manifest(out, cohort);
    const std::string report_file = out + ".import.json";
    write_json(report_file, report_json(cohort));
    print_report(cohort, out, report_file);
    return ExitCode::kDone;
  };
}

}  // namespace

Command cache_import_command() {
  return {.spec = {.name = "cache import",
                   .summary = "writes a manifest from a public layout or a folder of scans and reports",
                   .example = "  triphase cache import merlin merlinabdominalctdataset --out merlin.csv\n"
                              "  triphase cache import ct_rate CT-RATE --out ct_rate.csv --volumes fixed\n"
                              "  triphase cache import folder scans --reports reports.xlsx --site north --out north.csv",
                   .options = {{"out", "FILE", "the manifest; FILE.import.json says what was joined and dropped", true},
                               {"site", "NAME", "of every study (default: the layout's name, or the table's column)"},
                               {"report-part", "PART", "whole (default), findings or impression"},
                               {"reports", "FILE", "a table of reports, .csv or .xlsx (folder: default .txt beside scans)"},
                               {"labels", "FILE", "a table of labels, in place of the layout's own", false, true},
                               {"keep", "COLUMN", "carries a column of the metadata on; no other leaves it", false, true},
                               {"volumes", "KIND", "of CT-RATE: auto (fixed where they are there), fixed or raw"}},
                   .positional_name = "merlin|ct_rate|folder DIR",
                   .min_positionals = 2,
                   .max_positionals = 2},
          .prepare = prepare};
}

}  // namespace triphase::launch
