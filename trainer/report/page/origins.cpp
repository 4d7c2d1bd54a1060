// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/table.hpp"

#include <set>

namespace triphase::trainer {
namespace {

std::string joined(const Json& words) {
  std::string text;
  for (const Json& word : words)
    if (word.is_string()) text += (text.empty() ? "" : ", ") + word.get<std::string>();
  return text;
}

/// "120 of 300 (40.0 %)", unknown labels outside both numbers.
std::string prevalence(const Json& counts) {
  const auto positive = counts.at("positive").get<std::int64_t>();
  const std::int64_t known = positive + counts.at("negative").get<std::int64_t>();
  if (known == 0) return "none known";
  return str(count_text(positive), " of ", count_text(known), " (",
             decimal(100.0 * static_cast<double>(positive) / static_cast<double>(known), 1), " %)");
}

std::string cohort_table(const Json& cohort) {
  std::set<std::string> findings;
  for (const Json& row : cohort.at("rows"))
    for (const auto& [finding, counts] : row.at("findings").items()) findings.insert(finding);
  using enum ColumnKind;
  std::vector<TableColumn> columns{
      {"site"}, {"split"}, {"studies", kNumber}, {"patients", kNumber}};
  for (const std::string& finding : findings) columns.push_back({finding, kNumber});
  std::vector<std::vector<std::string>> cells;
  for (const Json& row : cohort.at("rows")) {
    std::vector<std::string> line{row.at("site"), row.at("split"), count_text(row.at("n")),
                                  count_text(row.at("patients"))};
    for (const std::string& finding : findings)
      line.push_back(row.at("findings").contains(finding) ? prevalence(row["findings"][finding])
                                                          : "–");
    cells.push_back(std::move(line));
  }
  return html_table(columns, cells);
}

}  // namespace

std::string cohort_section(const Json& figures) {
  std::string html;
  for (const Json& cohort : figures.at("cohorts")) {
    html += cohort_table(cohort);
    const std::string hash =
        cohort.at("data_hash").is_string() ? cohort.at("data_hash").get<std::string>() : "unknown";
    html += html_remark("Data hash " + hash + ", used by " + joined(cohort.at("runs")) + ".");
  }
  return html_section("The cohort", html);
}

std::string settings_section(const Json& figures) {
  if (figures.at("runs").size() < 2) return "";
  using enum ColumnKind;
  std::vector<TableColumn> columns{{"setting"}};
  for (const Json& run : figures.at("runs")) columns.push_back({run.at("name"), kWrapped});
  std::vector<std::vector<std::string>> cells;
  for (const Json& setting : figures.at("settings")) {
    std::vector<std::string> row{setting.at("key")};
    for (const Json& value : setting.at("values"))
      row.push_back(value.is_string() ? value.get<std::string>() : "–");
    cells.push_back(std::move(row));
  }
  return html_section("Where the configurations differ", html_table(columns, cells));
}

std::string environment_section(const Json& figures) {
  std::vector<std::vector<std::string>> cells;
  for (const Json& run : figures.at("runs")) {
    const Json& environment = run.at("environment");
    std::string versions;
    if (environment.at("versions").is_object())
      for (const auto& [name, version] : environment.at("versions").items())
        if (version.is_string() && !version.get<std::string>().empty())
          versions += (versions.empty() ? "" : ", ") + name + " " + version.get<std::string>();
    const Json* evaluation = main_evaluation(run);
    std::string checkpoint = "–";
    if (evaluation != nullptr && evaluation->contains("model") &&
        evaluation->at("model").contains("checkpoint") &&
        evaluation->at("model").at("checkpoint").is_string())
      checkpoint = evaluation->at("model").at("checkpoint");
    const auto text = [&](const Json& value) {
      return value.is_string() ? value.get<std::string>() : std::string("–");
    };
    const std::string config_hash = evaluation != nullptr && evaluation->contains("config_hash")
                                        ? text(evaluation->at("config_hash"))
                                        : std::string("–");
    cells.push_back({run.at("name"), count_text(environment.at("num_ranks")),
                     count_text(environment.at("threads_per_rank")),
                     text(environment.at("backend")), versions.empty() ? "–" : versions, checkpoint,
                     text(environment.at("data_hash")), config_hash, count_text(run.at("seed"))});
  }
  using enum ColumnKind;
  return html_section("Where the numbers come from", html_table({{"run"},
                                                                 {"ranks", kNumber},
                                                                 {"threads", kNumber},
                                                                 {"backend"},
                                                                 {"versions", kWrapped},
                                                                 {"evaluated checkpoint"},
                                                                 {"data hash"},
                                                                 {"configuration hash"},
                                                                 {"seed", kNumber}},
                                                                cells));
}

}  // namespace triphase::trainer
