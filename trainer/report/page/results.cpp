// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"
#include "trainer/report/tables.hpp"

#include <algorithm>
#include <set>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxShownRows = 16;  // of the full table; a longer one is folded

/// Prompts and linear probe of each run, one below the other; of many runs the prompts alone.
std::vector<Scored> plotted(const Json& figures) {
  std::vector<Scored> rows;
  const bool is_crowded = figures.at("runs").size() > 8;
  for (const Scored& scored : all_scored(figures))
    if (scored.is_main && (scored.scored_by == "prompts" ||
                           (scored.scored_by == "linear probe" && !is_crowded)))
      rows.push_back(scored);
  return rows;
}

/// Whether the plotted evaluations come from different sites or splits, so that each row must say
/// its own.
bool places_differ(const std::vector<Scored>& rows) {
  std::set<std::string> places;
  for (const Scored& row : rows)
    places.insert(sites_text(*row.evaluation) + "|" +
                  row.evaluation->at("split").get<std::string>());
  return places.size() > 1;
}

std::string plot(const std::vector<Scored>& rows, const char* key, const std::string& title,
                 std::optional<double> reference) {
  IntervalPlot figure{.title = title,
                      .description = "One row a run: the value as a mark, its 95 % interval as a "
                                     "bar. The numbers stand in the table of all scores.",
                      .rows = {},
                      .reference = reference};
  const bool with_place = places_differ(rows);
  for (const Scored& row : rows) {
    const Json value = member(*row.scores, key);
    if (!value.is_number()) continue;
    const Json interval = member(*row.scores, (std::string(key) + "_ci95").c_str());
    const bool is_probe = row.scored_by != "prompts";
    IntervalRow drawn;
    drawn.label = row.name() + (is_probe ? " · probe" : "") +
                  (with_place ? " · " + sites_text(*row.evaluation) : "");
    drawn.value_text = score_text(value) + " " + interval_text(interval);
    drawn.index = row.run->at("series");
    drawn.is_hollow = is_probe;
    drawn.value = value.get<double>();
    if (low_end(interval).is_number() && high_end(interval).is_number())
      drawn.interval = {interval[0].get<double>(), interval[1].get<double>()};
    figure.rows.push_back(std::move(drawn));
  }
  return html_figure(title, interval_plot(figure));
}

/// Why a number is missing, or flatters: once each.
std::string remarks(const std::vector<Scored>& rows) {
  std::set<std::string> said;
  std::string html;
  for (const Scored& row : rows) {
    for (const char* key : {"reason", "note"}) {
      const Json text = member(*row.scores, key);
      if (!text.is_string()) continue;
      const std::string remark = str("Run '", row.name(), "', ", row.finding, ", ", row.scored_by,
                                     ": ", text.get<std::string>(), ".");
      if (said.insert(remark).second) html += html_remark(remark);
    }
  }
  return html;
}

std::string differences(const Json& figures) {
  const std::string table = shown_table(figures, "differences");
  if (table.empty()) return "";
  const std::size_t count = figures.at("differences").size();
  return html_part(
      "Differences between runs on the same studies",
      table + html_remark(str(
                  "Positive: the run is better than the one it is compared with. DeLong's test takes "
                  "into account that both were scored on the same studies, and takes each study as "
                  "independent of the others. ",
                  count == 1 ? "This is one comparison" : str("These are ", count, " comparisons"),
                  "; 'p, Holm' is corrected for their number.")));
}

}  // namespace

std::string result_section(const Json& figures) {
  const std::vector<Scored> all = all_scored(figures);
  std::string html = shown_table(figures, "headline");
  if (all.empty()) return html_section("results", "Results", html);
  const std::vector<Scored> rows = plotted(figures);
  const std::string finding =
      figures.at("finding").is_string() ? figures.at("finding").get<std::string>() : "";
  html += html_figures(series_legend(figures, [&] {
                         std::set<std::size_t> series;
                         for (const Scored& row : rows)
                           series.insert(row.run->at("series").get<std::size_t>());
                         return series;
                       }()),
                       plot(rows, "auc", "AUC, " + finding, 0.5) +
                           plot(rows, "f1", "F1, " + finding, std::nullopt));
  html += html_remark(
      "Bars are 95 % intervals from resampling patients. Filled: scored by prompts, no label used. "
      "Hollow: linear probe on the image features, fitted on the training split's labels. "
      "Thresholds (F1, sensitivity, specificity, PPV, NPV, balanced accuracy) come from the split "
      "named beside them. PPV and NPV hold at this cohort's prevalence.");
  html += html_part("All scores", all.size() <= kMaxShownRows ? shown_table(figures, "scores")
                                                              : folded_tables(figures, {"scores"}));
  html += remarks(all) + html_part("What one modality alone tells", shown_table(figures, "baselines"));
  return html_section("results", "Results", html + differences(figures));
}

}  // namespace triphase::trainer
