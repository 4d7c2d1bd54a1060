// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"
#include "trainer/report/tables.hpp"

#include <array>
#include <map>
#include <set>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxBars = 12;

const std::vector<std::string> kPhaseNames{"data",     "forward",   "loss",
                                           "backward", "reduction", "optimizer"};

std::string phase_legend() {
  std::string html = "<ul class=\"legend\">";
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    html += str("<li><svg viewBox=\"0 0 36 12\" aria-hidden=\"true\"><rect class=\"bar ",
                series_class(i), "\" width=\"36\" height=\"12\"/></svg>", kPhaseNames[i], "</li>");
  return html + "</ul>\n";
}

std::string step_breakdown(const Json& figures) {
  StackedBars bars{.title = "Where a step's time goes (median)",
                   .description = "One bar a run, divided into data, forward, loss, backward, "
                                  "reduction and optimizer.",
                   .part_names = kPhaseNames,
                   .rows = {}};
  const Json* table = find_table(figures, "step_time");
  if (table == nullptr) return "";
  const std::size_t phases = kPhaseNames.size();
  for (const Json& row : table->at("rows")) {
    StackedRow bar{row[0], seconds_text(row[phases + 1]), {}};
    for (std::size_t i = 1; i <= phases; ++i)
      bar.parts.push_back(row[i].is_number() ? row[i].get<double>() : 0);
    bars.rows.push_back(std::move(bar));
  }
  const std::string drawn =
      bars.rows.size() > kMaxBars ? "" : html_figure(bars.title, stacked_bars(bars));
  return html_figures(phase_legend(), drawn) + folded_tables(figures, {"step_time"});
}

/// Each run's main scores by prompts.
std::map<std::string, Scored> scores_by_run(const Json& figures) {
  std::map<std::string, Scored> found;
  for (const Scored& scored : main_scored(figures, "prompts")) found.emplace(scored.name(), scored);
  return found;
}

/// A point with its interval, when there is an AUC. @return whether there was
bool add_auc(LineSeries& series, double x, const std::map<std::string, Scored>& scores,
             const std::string& run) {
  const auto found = scores.find(run);
  if (found == scores.end()) return false;
  const auto auc = number(*found->second.scores, "auc");
  if (!auc) return false;
  const Json interval = member(*found->second.scores, "auc_ci95");
  series.points.push_back({x, *auc});
  if (low_end(interval).is_number()) series.band.push_back({x, interval[0], interval[1]});
  return true;
}

/// One series of dots for each of figures.series, `x_of` giving a run's place.
template <class XOf>
std::vector<LineSeries> auc_series(const Json& figures, const XOf& x_of) {
  std::vector<LineSeries> result;
  const auto scores = scores_by_run(figures);
  for (std::size_t i = 0; i < figures.at("series").size(); ++i) {
    LineSeries series;
    series.name = figures.at("series")[i].at("name");
    series.index = i;
    series.has_line = false;
    series.has_dots = true;
    for (const Json& place : figures.at("series")[i].at("runs")) {
      const Json& run = figures.at("runs")[place.get<std::size_t>()];
      if (const std::optional<double> x = x_of(run)) add_auc(series, *x, scores, run.at("name"));
    }
    if (!series.points.empty()) result.push_back(std::move(series));
  }
  return result;
}

std::set<std::size_t> series_in(const std::vector<LineSeries>& drawn) {
  std::set<std::size_t> series;
  for (const LineSeries& each : drawn) series.insert(each.index);
  return series;
}

std::string trainable_chart(const Json& figures) {
  if (find_table(figures, "trainable") == nullptr) return "";
  LineChart chart{.title = "AUC by trained parameters",
                  .description = "A mark a run with its 95 % interval, over the percentage of "
                                 "parameters that were trained, on a log axis.",
                  .x_label = "trained parameters, %",
                  .y_label = "AUC",
                  .series = auc_series(figures,
                                       [](const Json& run) {
                                         return number(run.at("trainable"), "percent");
                                       }),
                  .is_x_log = true};
  return html_figures(series_legend(figures, series_in(chart.series)),
                      html_figure(chart.title, line_chart(chart))) +
         folded_tables(figures, {"trainable"});
}

/// Method and whether the temperature was learned: what a temperature study compares.
std::string family(const Json& run) {
  return run.at("method").get<std::string>() +
         (run.at("temperature").at("learnable").get<bool>() ? ", learned" : ", fixed");
}

std::string family_legend(const std::vector<std::string>& names) {
  std::string html = "<ul class=\"legend\">";
  for (std::size_t i = 0; i < names.size(); ++i)
    html += "<li>" + legend_sample(i) + escape_html(names[i]) + "</li>";
  return html + "</ul>\n";
}

/// Mean at each x, in rising order.
Json means(const std::map<double, std::vector<double>>& by_x) {
  Json points = Json::array();
  for (const auto& [x, values] : by_x) {
    double sum = 0;
    for (const double value : values) sum += value;
    points.push_back({x, sum / static_cast<double>(values.size())});
  }
  return points;
}

}  // namespace

std::string temperature_section(const Json& figures) {
  const Json* table = find_table(figures, "temperature");
  if (table == nullptr) return "";
  std::vector<std::string> names;
  std::vector<LineSeries> aucs;
  std::vector<LineSeries> finals;
  const auto scores = scores_by_run(figures);
  std::vector<std::map<double, std::vector<double>>> by_initial;
  for (const Json& run : figures.at("runs")) {
    if (!run.at("temperature").is_object()) continue;
    const std::string name = family(run);
    auto place = static_cast<std::size_t>(std::find(names.begin(), names.end(), name) -
                                          names.begin());
    if (place == names.size()) {
      names.push_back(name);
      by_initial.emplace_back();
      for (auto* list : {&aucs, &finals}) {
        LineSeries series;
        series.name = name;
        series.index = place;
        series.has_line = false;
        series.has_dots = true;
        list->push_back(std::move(series));
      }
    }
    const double initial = run.at("temperature").at("initial").get<double>();
    if (add_auc(aucs[place], initial, scores, run.at("name")))
      by_initial[place][initial].push_back(aucs[place].points.back()[1].get<double>());
    if (const auto last = number(run.at("temperature"), "final"))
      finals[place].points.push_back({initial, *last});
  }
  for (LineSeries& series : aucs) series.band = Json::array();  // whiskers of many runs would collide
  const std::size_t num_families = names.size();
  for (std::size_t i = 0; i < num_families; ++i) {
    LineSeries line;
    line.name = names[i] + ", mean over runs";
    line.index = i;
    line.points = means(by_initial[i]);
    line.is_thin = true;
    aucs.push_back(std::move(line));
  }
  LineChart auc{.title = "AUC by initial temperature",
                .description = "A mark a run, a line through the means of runs with the same initial "
                               "temperature, for each method and learned or fixed temperature.",
                .x_label = "initial temperature",
                .y_label = "AUC",
                .series = std::move(aucs),
                .is_x_log = true};
  LineChart final{.title = "Final temperature by initial temperature",
                  .description = "A mark a run; on the dashed diagonal the temperature stayed.",
                  .x_label = "initial temperature",
                  .y_label = "final temperature",
                  .series = std::move(finals),
                  .is_x_log = true,
                  .is_y_log = true};
  final.has_diagonal = true;
  const std::string html = html_figures(
      family_legend(names), html_figure(auc.title, line_chart(auc)) +
                                html_figure(final.title, line_chart(final)));
  return html_section("temperature", "What the initial temperature does",
                      html + folded_tables(figures, {"temperature"}));
}

std::string cost_section(const Json& figures) {
  std::string html = shown_table(figures, "cost");
  if (html.empty()) return "";
  for (const Json& run : figures.at("runs")) {
    const Json of = member(run.at("trainable"), "percent_of");
    if (!of.is_string()) continue;
    html += html_remark("The percentage is of " + of.get<std::string>() +
                        ". Times and bytes are medians over logged steps.");
    break;
  }
  return html_section("cost", "What each method costs",
                      html + html_part("Trained parameters and AUC", trainable_chart(figures)) +
                          html_part("A step's time", step_breakdown(figures)));
}

}  // namespace triphase::trainer
