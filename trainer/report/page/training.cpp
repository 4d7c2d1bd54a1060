// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/draw/svg.hpp"
#include "trainer/report/page/table.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr std::array<const char*, 6> kPhases{"data",     "forward",        "loss",
                                             "backward", "reduce_exposed", "optimizer"};
const std::vector<std::string> kPhaseNames{"data",     "forward",   "loss",
                                           "backward", "reduction", "optimizer"};

std::string sample_line(const std::string& css, const std::string& dash) {
  return str("<svg viewBox=\"0 0 30 10\" aria-hidden=\"true\"><line class=\"curve ", css,
             "\" x1=\"0\" y1=\"5\" x2=\"30\" y2=\"5\"",
             dash.empty() ? "" : " stroke-dasharray=\"" + dash + "\"", "/></svg>");
}

/// Places in figures.runs.
using RunPlaces = std::vector<std::size_t>;

std::string run_legend(const Json& runs, const RunPlaces& places) {
  std::string html = "<ul class=\"legend\">";
  for (const std::size_t i : places)
    html += str("<li>", sample_line(series_class(i), series_dash(i)),
                escape_html(runs[i].at("name").get<std::string>()), "</li>");
  return html + "</ul>\n";
}

std::string phase_legend() {
  std::string html = "<ul class=\"legend\">";
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i)
    html += str("<li><svg viewBox=\"0 0 30 10\" aria-hidden=\"true\"><rect class=\"bar ",
                series_class(i), "\" width=\"30\" height=\"10\"/></svg>", kPhaseNames[i], "</li>");
  return html + "</ul>\n";
}

/// One chart of one curve over some runs. @param finding of validation_auc, else ""
std::string chart(const Json& runs, const RunPlaces& places, const std::string& title,
                  const char* key, const char* faint, const std::string& finding = "") {
  LineChart figure{.title = title, .x_label = "step", .series = {}};
  for (const std::size_t i : places) {
    const Json& curves = runs[i].at("curves");
    Json points = curves.at(key);
    if (!finding.empty()) points = points.contains(finding) ? points.at(finding) : Json::array();
    LineSeries series{runs[i].at("name"), i, points, Json::array()};
    if (faint != nullptr) series.faint = curves.at(faint);
    figure.series.push_back(std::move(series));
  }
  return line_chart(figure);
}

std::string first_and_last(const Json& training, const char* key) {
  if (!training.is_object() || !training.at(key).is_object()) return "–";
  return str(number_text(training.at(key).at("first")), " → ",
             number_text(training.at(key).at("last")));
}

std::string step_breakdown(const Json& runs) {
  StackedBars bars{
      .title = "Where a step's time goes (median)", .part_names = kPhaseNames, .rows = {}};
  for (const Json& run : runs) {
    const Json& cost = run.at("cost");
    if (!cost.is_object() || !cost.at("seconds_per_step").is_number()) continue;
    StackedRow row{run.at("name"), seconds_text(cost.at("seconds_per_step")), {}};
    for (const char* phase : kPhases)
      row.parts.push_back(
          cost.at("seconds").contains(phase) ? cost.at("seconds").at(phase).get<double>() : 0);
    bars.rows.push_back(std::move(row));
  }
  const std::string svg = stacked_bars(bars);
  return svg.empty() ? "" : phase_legend() + "<div class=\"charts\">" + svg + "</div>\n";
}

std::string methods_table(const Json& runs) {
  std::vector<std::vector<std::string>> cells;
  for (const Json& run : runs) {
    if (!run.at("is_trained").get<bool>()) continue;
    const Json& trainable = run.at("trainable");
    const Json& cost = run.at("cost");
    const Json& training = run.at("training");
    const bool is_counted = trainable.is_object() && trainable.at("percent").is_number();
    const Json& best = training.at("best_validation");
    cells.push_back({run.at("name"), method_text(run), run.at("preset"),
                     is_counted ? count_text(trainable.at("num_trainable")) : "–",
                     is_counted ? decimal(trainable.at("percent").get<double>(), 3) + " %" : "–",
                     is_counted ? count_text(trainable.at("num_base_parameters")) : "–",
                     count_text(cost.at("steps")), count_text(run.at("global_pairs")),
                     count_text(run.at("environment").at("num_ranks")),
                     bytes_text(cost.at("bytes_reduced_per_step")),
                     seconds_text(cost.at("seconds_per_step")),
                     number_text(cost.at("pairs_per_second")), first_and_last(training, "loss"),
                     first_and_last(training, "temperature"),
                     best.is_object() ? str(decimal(best.at("loss").get<double>(), 3), " at step ",
                                            count_text(best.at("step")))
                                      : "–"});
  }
  using enum ColumnKind;
  return html_table({{"run"},
                     {"method"},
                     {"model"},
                     {"trainable", kNumber},
                     {"of the parameters", kNumber},
                     {"parameters", kNumber},
                     {"steps", kNumber},
                     {"pairs a step", kNumber},
                     {"ranks", kNumber},
                     {"reduced a step and rank", kNumber},
                     {"time a step", kNumber},
                     {"pairs a second", kNumber},
                     {"loss", kNumber},
                     {"temperature", kNumber},
                     {"best validation loss", kNumber}},
                    cells);
}

/// The charts of runs that learnt from the same data.
std::string charts_of(const Json& figures, const RunPlaces& places) {
  const Json& runs = figures.at("runs");
  std::string charts =
      chart(runs, places, "Training loss (thin: each logged step)", "loss_smooth", "loss") +
      chart(runs, places, "Validation loss", "validation_loss", nullptr);
  if (figures.at("finding").is_string()) {
    const std::string finding = figures.at("finding");
    charts +=
        chart(runs, places, "Validation AUC, " + finding, "validation_auc", nullptr, finding);
  }
  charts += chart(runs, places, "Temperature", "temperature", nullptr);
  if (charts.empty()) return "";
  return run_legend(runs, places) + "<div class=\"charts\">\n" + charts + "</div>\n";
}

}  // namespace

std::string curves_section(const Json& figures) {
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
    if (charts.empty()) continue;
    if (by_sites.size() > 1) html += "<h3>Trained on " + escape_html(sites) + "</h3>\n";
    html += charts;
  }
  return html.empty() ? "" : html_section("How training went", html);
}

std::string methods_section(const Json& figures) {
  const Json& runs = figures.at("runs");
  const std::string table = methods_table(runs);
  if (table.empty()) return "";
  std::string html = table;
  for (const Json& run : runs) {
    const Json& trainable = run.at("trainable");
    if (!trainable.is_object() || !trainable.at("percent_of").is_string()) continue;
    html += html_remark("The percentage is of " + trainable.at("percent_of").get<std::string>() +
                        ". Times and bytes are medians over logged steps.");
    break;
  }
  return html_section("What each method costs", html + step_breakdown(runs));
}

}  // namespace triphase::trainer
