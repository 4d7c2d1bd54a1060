// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"

#include <cmath>
#include <set>

namespace triphase::trainer {
namespace {

std::string joined(const std::set<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string paragraph(const std::string& text) { return "<p>" + escape_html(text) + "</p>\n"; }

/// Which studies the main evaluations are of, each set of studies once.
std::string studies_text(const Json& figures) {
  std::set<std::string> said;
  std::set<std::string> sites;
  for (const Json& run : figures.at("runs")) {
    const Json* evaluation = main_evaluation(run);
    if (evaluation == nullptr) continue;
    std::string text = str(count_text(evaluation->at("n")), " ",
                           evaluation->at("split").get<std::string>(), " studies of ",
                           sites_text(*evaluation));
    const Json finding = figures.at("finding");
    const Json scores = finding.is_string() ? member(evaluation->at("findings"),
                                                     finding.get<std::string>().c_str())
                                            : Json();
    if (scores.is_object())
      text += str(" (", count_text(member(scores, "n_positive")), " with ",
                  finding.get<std::string>(), ", ", count_text(member(scores, "n_negative")),
                  " without)");
    said.insert(text);
    for (const Json& site : member(*evaluation, "sites"))
      if (site.is_string()) sites.insert(site.get<std::string>());
  }
  if (said.empty()) return "No run was evaluated.";
  std::string text = "The results are of " + joined(said) + ". ";
  if (!sites.empty())
    text += str(sites.size() == 1 ? "The only site tested is " : "The sites tested are ",
                joined(sites), "; what holds there need not hold at another institution.");
  return text;
}

/// AUCs by prompts and probes of all evaluations: each is a chance to look good.
std::size_t num_aucs(const Json& figures) {
  std::size_t count = 0;
  for (const Json& run : figures.at("runs"))
    for (const Json& evaluation : run.at("evaluations"))
      for (const auto& [finding, scores] : evaluation.at("findings").items()) {
        for (const Json& each :
             {scores, member(scores, "linear_probe"), member(scores, "report_probe")})
          if (number(each, "auc")) ++count;
      }
  return count;
}

}  // namespace

std::string cohort_section(const Json& figures) {
  const std::string table = shown_table(figures, "cohort");
  if (table.empty()) return "";
  std::string html = table;
  for (const Json& cohort : figures.at("cohorts")) {
    std::set<std::string> runs;
    for (const Json& run : cohort.at("runs")) runs.insert(run.get<std::string>());
    const std::string hash = cohort.at("data_hash").is_string()
                                 ? cohort.at("data_hash").get<std::string>()
                                 : std::string("unknown");
    html += html_remark("Data hash " + hash + ", used by " + joined(runs) + ".");
  }
  return html_section("cohort", "The cohort", html);
}

std::string settings_section(const Json& figures) {
  return html_section("settings", "Where the configurations differ",
                      shown_table(figures, "settings"));
}

std::string origins_section(const Json& figures) {
  return html_section("origins", "Where the numbers come from", shown_table(figures, "origins"));
}

std::string missing_section(const Json& figures) {
  const std::string table = shown_table(figures, "missing");
  if (table.empty()) return "";
  return html_section(
      "missing", "What some files lack",
      html_remark("These runs were written by another version of Triphase than this page. What a "
                  "file lacks shows as – in tables and is left out of figures.") +
          table);
}

std::string limits_section(const Json& figures) {
  std::string html = paragraph(
      figures.at("phantom").get<bool>()
          ? "The data is a synthetic cohort: no number here is clinical evidence, and none says how "
            "a method does on patients."
          : "These are retrospective results on the studies below. They are no validation for "
            "clinical use.");
  html += paragraph(studies_text(figures));
  const std::size_t count = num_aucs(figures);
  if (count > 0)
    html += paragraph(str(
        "The page holds ", count, count == 1 ? " AUC" : " AUCs", " and ",
        figures.at("differences").size(), " paired comparisons. Intervals are of 95 % each, not of "
        "all together: ",
        count == 1 ? "one in twenty such intervals misses its value. "
                   : str("of ", count, " such intervals about ",
                         static_cast<int>(std::lround(std::ceil(0.05 * static_cast<double>(count)))),
                         " may be expected to miss their value. "),
        "The best of many runs looks better here than it will on new studies. Intervals are over "
        "patients and do not hold what another seed would change; runs over several seeds show "
        "that."));
  html += paragraph(
      "Labels are as the manifest gives them, and studies whose label is unknown are left out. "
      "Thresholds and the best step were chosen on the validation split.");
  return html_section("limits", "Limits", html);
}

}  // namespace triphase::trainer
