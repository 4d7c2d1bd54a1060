// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxFullLines = 8;

/// Places in figures.runs.
using RunPlaces = std::vector<std::size_t>;

/// The point of the best step on a curve, as a list; empty where the curve has none there.
Json best_point(const Json& run, const Json& points) {
  const Json step = member(member(run.at("training"), "best"), "step");
  Json marked = Json::array();
  for (const Json& point : points)
    if (step.is_number() && point[0] == step) marked.push_back(point);
  return marked;
}

LineSeries curve(const Json& run, const Json& points, bool is_thin) {
  LineSeries series;
  series.name = run.at("name");
  series.index = run.at("series");
  series.points = points;
  series.is_thin = is_thin;
  return series;
}

/// A validation's curve, its best step ringed.
LineSeries validated(const Json& run, const Json& points, bool is_thin) {
  LineSeries series = curve(run, points, is_thin);
  series.marked = best_point(run, points);
  series.has_dots = !is_thin;
  return series;
}

std::string auc_chart(const Json& figures, const RunPlaces& places) {
  if (!figures.at("finding").is_string()) return "";
  const std::string finding = figures.at("finding");
  LineChart chart{.title = "Validation AUC, " + finding,
                  .description = "By training step, a line a run; the best step is ringed.",
                  .x_label = "step",
                  .y_label = "AUC",
                  .series = {}};
  for (const std::size_t i : places) {
    const Json& run = figures.at("runs")[i];
    const Json points = member(run.at("curves").at("validation_auc"), finding.c_str());
    chart.series.push_back(validated(run, points.is_array() ? points : Json::array(),
                                     places.size() > kMaxFullLines));
  }
  return html_figure(chart.title, line_chart(chart));
}

std::string temperature_chart(const Json& figures, const RunPlaces& places) {
  LineChart chart{.title = "Temperature",
                  .description = "By training step, a line a run.",
                  .x_label = "step",
                  .y_label = "temperature",
                  .series = {}};
  double low = 0;
  double high = 0;
  for (const std::size_t i : places) {
    const Json& run = figures.at("runs")[i];
    const Json& points = run.at("curves").at("temperature");
    chart.series.push_back(curve(run, points, places.size() > kMaxFullLines));
    for (const Json& point : points) {
      const double value = point[1].get<double>();
      low = low > 0 ? std::min(low, value) : value;
      high = std::max(high, value);
    }
  }
  chart.is_y_log = low > 0 && high > 4 * low;
  return html_figure(chart.title, line_chart(chart));
}

/// Training and validation loss of one series on the same axes: where they part, it overfits.
std::string loss_chart(const Json& figures, const std::string& name, const RunPlaces& places) {
  LineChart chart{.title = "Loss, " + name,
                  .description = "Thin: training loss, smoothed. Thick, with marks: validation "
                                 "loss; the best step is ringed.",
                  .x_label = "step",
                  .y_label = "loss",
                  .series = {}};
  for (const std::size_t i : places) {
    const Json& run = figures.at("runs")[i];
    const Json& curves = run.at("curves");
    LineSeries training = curve(run, curves.at("loss_smooth"), true);
    training.name += ", training";
    LineSeries validation = validated(run, curves.at("validation_loss"), false);
    validation.name += ", validation";
    validation.has_dots = places.size() <= 4;
    chart.series.push_back(std::move(training));
    chart.series.push_back(std::move(validation));
  }
  return html_figure(chart.title, line_chart(chart));
}

/// The charts of runs that learnt from the same data.
std::string charts_of(const Json& figures, const RunPlaces& places) {
  std::set<std::size_t> series;
  std::vector<std::pair<std::size_t, RunPlaces>> by_series;
  for (const std::size_t i : places) {
    const auto index = figures.at("runs")[i].at("series").get<std::size_t>();
    if (series.insert(index).second) by_series.push_back({index, {}});
    std::find_if(by_series.begin(), by_series.end(),
                 [&](const auto& each) { return each.first == index; })
        ->second.push_back(i);
  }
  std::string charts = auc_chart(figures, places) + temperature_chart(figures, places);
  for (const auto& [index, runs] : by_series)
    charts += loss_chart(figures, figures.at("series")[index].at("name"), runs);
  return html_figures(series_legend(figures, series), charts);
}

}  // namespace

std::string training_section(const Json& figures) {
  // A loss says nothing beside that of other data, so each set of training sites has its own charts.
  std::vector<std::pair<std::string, RunPlaces>> by_sites;
  const Json& runs = figures.at("runs");
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].at("is_trained").get<bool>()) continue;
    const std::string sites = sites_text(runs[i].at("trained_on"));
    const auto known = std::find_if(by_sites.begin(), by_sites.end(),
                                    [&](const auto& group) { return group.first == sites; });
    if (known == by_sites.end())
      by_sites.emplace_back(sites, RunPlaces{i});
    else
      known->second.push_back(i);
  }
  std::string html;
  for (const auto& [sites, places] : by_sites) {
    const std::string charts = charts_of(figures, places);
    html += by_sites.size() > 1 ? html_part("Trained on " + sites, charts) : charts;
  }
  if (html.empty()) return "";
  html += html_remark(
      "A ring marks the step whose checkpoint was kept. Training loss is smoothed over a twentieth "
      "of the run; validation loss is that of fixed batches, in evaluation mode, so that the two "
      "need not meet where nothing is overfitted: what tells is that one falls while the other "
      "rises.");
  return html_section("training", "How training went",
                      html + folded_tables(figures, {"training"}));
}

}  // namespace triphase::trainer
