// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"
#include "trainer/report/tables.hpp"

#include <array>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxBands = 4;  // more lie over each other and hide what they are of
constexpr std::size_t kMaxFullLines = 8;

/// [[x, y]] or, of a band, [[x, low, high]].
Json points_of(const Json& x, const Json& y, const Json& high = nullptr) {
  Json points = Json::array();
  if (!x.is_array() || !y.is_array()) return points;
  for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
    points.push_back({x[i], y[i]});
    if (high.is_array()) points.back().push_back(element(high, i));
  }
  return points;
}

LineSeries series_of(const Scored& scored, std::size_t lines) {
  LineSeries series;
  series.name = scored.name();
  series.index = scored.run->at("series");
  series.is_thin = lines > kMaxFullLines;
  return series;
}

std::string curve(const Json& figures, const std::string& scored_by, const char* name,
                  const char* x, const char* y, LineChart chart) {
  const std::vector<Scored> rows = main_scored(figures, scored_by);
  for (const Scored& scored : rows) {
    const Json found = member(*scored.scores, name);
    if (!found.is_object()) continue;
    LineSeries series = series_of(scored, rows.size());
    const std::string key(y);
    series.points = points_of(member(found, x), member(found, y));
    if (rows.size() <= kMaxBands)
      series.band = points_of(member(found, x), member(found, (key + "_low").c_str()),
                              member(found, (key + "_high").c_str()));
    chart.series.push_back(std::move(series));
  }
  chart.x_range = chart.y_range = {{0.0, 1.0}};
  return html_figure(chart.title, line_chart(chart));
}

std::string reliability(const Json& figures, const std::string& scored_by) {
  LineChart chart{.title = "Reliability, " + scored_by,
                  .description = "How often the finding is there, by predicted probability; on the "
                                 "dashed diagonal predictions hold.",
                  .x_label = "mean predicted probability",
                  .y_label = "fraction positive",
                  .series = {}};
  chart.has_diagonal = true;
  chart.x_range = chart.y_range = {{0.0, 1.0}};
  const std::vector<Scored> rows = main_scored(figures, scored_by);
  for (const Scored& scored : rows) {
    LineSeries series = series_of(scored, rows.size());
    for (const Json& bin : member(member(*scored.scores, "calibration"), "bins"))
      series.points.push_back({member(bin, "mean_predicted"), member(bin, "fraction_positive")});
    series.has_dots = true;
    chart.series.push_back(std::move(series));
  }
  return html_figure(chart.title, line_chart(chart));
}

std::string k_shot(const Json& figures) {
  LineChart chart{.title = "AUC of a probe fitted on k studies of each class",
                  .description = "Mean over draws of the studies, with one standard deviation.",
                  .x_label = "k",
                  .y_label = "AUC",
                  .series = {},
                  .is_x_log = true,
                  .reference = 0.5};
  const std::vector<Scored> rows = main_scored(figures, "linear probe");
  for (const Scored& scored : rows) {
    LineSeries series = series_of(scored, rows.size());
    for (const Json& point : member(*scored.scores, "k_shot")) {
      const auto k = number(point, "k");
      const auto mean = number(point, "auc_mean");
      if (!k || !mean) continue;
      series.points.push_back({*k, *mean});
      const double sd = number(point, "auc_sd").value_or(0);
      if (rows.size() <= kMaxBands) series.band.push_back({*k, *mean - sd, *mean + sd});
    }
    series.has_dots = true;
    chart.series.push_back(std::move(series));
  }
  return html_figure(chart.title, line_chart(chart));
}

std::set<std::size_t> scored_series(const Json& figures) {
  std::set<std::size_t> series;
  for (const Scored& scored : all_scored(figures))
    if (scored.is_main) series.insert(scored.run->at("series").get<std::size_t>());
  return series;
}

}  // namespace

std::string shape_section(const Json& figures) {
  if (!figures.at("finding").is_string()) return "";
  constexpr std::array<const char*, 3> kScoredBy{"prompts", "linear probe", "report probe"};
  const std::string legend = series_legend(figures, scored_series(figures));
  std::string roc;
  std::string precision_recall;
  std::string calibration;
  for (const char* scored_by : kScoredBy) {
    const std::string by(scored_by);
    LineChart chart{.title = "ROC, " + by,
                    .description = "True positive rate by false positive rate; the dashed diagonal "
                                   "is chance. Shaded: pointwise 95 % bands.",
                    .x_label = "false positive rate",
                    .y_label = "true positive rate",
                    .series = {}};
    chart.has_diagonal = true;
    roc += curve(figures, by, "roc", "fpr", "tpr", chart);
    precision_recall += curve(figures, by, "precision_recall", "recall", "precision",
                              {.title = "Precision and recall, " + by,
                               .description = "Precision by recall. Shaded: pointwise 95 % bands.",
                               .x_label = "recall",
                               .y_label = "precision",
                               .series = {}});
    calibration += reliability(figures, by);
  }
  std::string html =
      html_part("ROC", html_figures(legend, roc) + folded_tables(figures, {"roc"})) +
      html_part("Precision and recall", html_figures(legend, precision_recall) +
                                            folded_tables(figures, {"precision_recall"})) +
      html_part("Calibration", html_figures(legend, calibration) +
                                   shown_table(figures, "calibration") +
                                   folded_tables(figures, {"reliability"})) +
      html_part("Few labels",
                html_figures(legend, k_shot(figures)) + folded_tables(figures, {"k_shot"}));
  if (html.empty()) return "";
  if (scored_series(figures).size() > kMaxBands || figures.at("runs").size() > kMaxBands)
    html += html_remark("Bands are drawn for four runs at most; those of all are in the tables.");
  return html_section("shape", "Curves of the scores, " + figures.at("finding").get<std::string>(),
                      html);
}

}  // namespace triphase::trainer
