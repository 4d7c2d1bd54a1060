// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/import/cohort.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

/// The shortest text that reads back as the same number; empty where the scan's own holds.
std::string number_text(double number, double own) {
  if (number == own) return "";
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), number);
  return {text.data(), end};
}

std::string joined(const std::vector<std::string>& fields) {
  std::string line;
  for (const std::string& field : fields) line += (line.empty() ? "" : ",") + csv_field(field);
  return line + "\n";
}

}  // namespace

void write_manifest(const fs::path& path, const ImportedCohort& cohort) {
  const Manifest& manifest = cohort.manifest;
  const auto any = [&](auto&& has) {
    return std::any_of(manifest.records.begin(), manifest.records.end(), has);
  };
  const bool has_groups = any([](const StudyRecord& study) { return !study.report_group.empty(); });
  const bool has_corrections = any([](const StudyRecord& study) { return !study.correction.is_none(); });
  std::vector<std::string> columns{"id", "patient_id", "site", "split", "image", "report"};
  if (has_groups) columns.emplace_back("report_group");
  if (has_corrections)
    columns.insert(columns.end(), {"hu_slope", "hu_intercept", "spacing_x_mm", "spacing_y_mm", "spacing_z_mm"});
  for (const std::string& finding : manifest.findings) columns.push_back("label:" + finding);
  columns.insert(columns.end(), cohort.kept_columns.begin(), cohort.kept_columns.end());
  std::string text = joined(columns);
  const fs::path folder = fs::absolute(path).parent_path();
  for (const StudyRecord& study : manifest.records) {
    const fs::path image = fs::absolute(study.image).lexically_normal().lexically_relative(folder.lexically_normal());
    std::vector<std::string> fields{study.id, study.patient_id, study.site, study.split,
                                    image.empty() ? fs::absolute(study.image).string() : image.string(),
                                    study.report};
    if (has_groups) fields.push_back(study.report_group);
    if (has_corrections) {
      fields.push_back(number_text(study.correction.hu_slope, 1));
      fields.push_back(number_text(study.correction.hu_intercept, 0));
      for (const double spacing_mm : study.correction.spacing_mm) fields.push_back(number_text(spacing_mm, 0));
    }
    for (const std::int8_t label : study.labels) fields.push_back(std::to_string(label));
    for (const std::string& column : cohort.kept_columns) fields.push_back(study.metadata.at(column));
    text += joined(fields);
  }
  make_output_directory(folder);
  const fs::path unread = path.string() + ".unread";
  write_file_atomically(unread, text);
  try {
    static_cast<void>(read_manifest(unread));
  } catch (Error& error) {
    std::error_code ignored;
    fs::remove(unread, ignored);
    error.add_context(str("nothing was written to '", path.string(), "'"));
    throw;
  }
  std::error_code error;
  fs::rename(unread, path, error);
  if (error) throw io_error(str("cannot write '", path.string(), "'"), error.value(), true);
  fsync_path(folder);
}

}  // namespace triphase::data
