// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/draw/svg.hpp"
#include "trainer/report/page/table.hpp"

#include <set>

namespace triphase::trainer {
namespace {

/// One way of scoring one run's main evaluation: by prompts or by the linear probe.
struct Scored {
  std::string run;
  std::string finding;
  std::string scored_by;
  std::size_t index = 0;  ///< of the run
  bool is_probe = false;
  Json run_figures;
  Json evaluation;
  Json scores;
};

Json field(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object.at(key) : Json();
}

/// Every run's main evaluation; of every split when `all_splits`.
std::vector<Scored> scored_rows(const Json& figures, bool all_splits) {
  std::vector<Scored> rows;
  const Json& runs = figures.at("runs");
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Json& evaluations = runs[i].at("evaluations");
    for (std::size_t e = 0; e < evaluations.size() && (all_splits || e == 0); ++e) {
      for (const auto& [finding, scores] : evaluations[e].at("findings").items()) {
        const std::string name = runs[i].at("name");
        rows.push_back({name, finding, "prompts", i, false, runs[i], evaluations[e], scores});
        const Json probe = field(scores, "linear_probe");
        if (probe.is_object())
          rows.push_back({name, finding, "linear probe", i, true, runs[i], evaluations[e], probe});
      }
    }
  }
  return rows;
}

/// Whether the plotted evaluations come from different sites or splits, so that each row must say
/// its own.
bool places_differ(const std::vector<Scored>& rows) {
  std::set<std::string> places;
  for (const Scored& row : rows)
    places.insert(sites_text(row.evaluation) + "|" + row.evaluation.at("split").get<std::string>());
  return places.size() > 1;
}

std::string plot(const std::vector<Scored>& rows, const std::string& finding, const char* key,
                 const std::string& title, std::optional<double> reference) {
  IntervalPlot figure{.title = title, .rows = {}, .reference = reference};
  const bool with_place = places_differ(rows);
  for (const Scored& row : rows) {
    const Json value = field(row.scores, key);
    if (row.finding != finding || !value.is_number()) continue;
    const Json interval = field(row.scores, (std::string(key) + "_ci95").c_str());
    IntervalRow drawn;
    drawn.label = row.run + (row.is_probe ? " · probe" : "") +
                  (with_place ? " · " + sites_text(row.evaluation) : "");
    drawn.value_text = score_text(value) + " " + interval_text(interval);
    drawn.index = row.index;
    drawn.is_hollow = row.is_probe;
    drawn.value = value.get<double>();
    if (interval.is_array() && interval.size() == 2)
      drawn.interval = {interval[0].get<double>(), interval[1].get<double>()};
    figure.rows.push_back(std::move(drawn));
  }
  return interval_plot(figure);
}

std::string table(const std::vector<Scored>& rows) {
  std::vector<std::vector<std::string>> cells;
  for (const Scored& row : rows) {
    const auto with_interval = [&](const char* key) {
      const Json value = field(row.scores, key);
      if (!value.is_number()) return score_text(value);
      return score_text(value) + " " +
             interval_text(field(row.scores, (std::string(key) + "_ci95").c_str()));
    };
    cells.push_back({row.run, method_text(row.run_figures), row.finding, row.scored_by,
                     sites_text(row.evaluation), row.evaluation.at("split").get<std::string>(),
                     count_text(field(row.scores, "n_positive")) + " / " +
                         count_text(field(row.scores, "n_negative")),
                     with_interval("auc"), with_interval("f1"), with_interval("sensitivity"),
                     with_interval("specificity")});
  }
  using enum ColumnKind;
  return html_table({{"run"},
                     {"method"},
                     {"finding"},
                     {"scored by"},
                     {"sites"},
                     {"split"},
                     {"positive / negative", kNumber},
                     {"AUC [95 %]", kNumber},
                     {"F1 [95 %]", kNumber},
                     {"sensitivity [95 %]", kNumber},
                     {"specificity [95 %]", kNumber}},
                    cells);
}

/// Why a number is missing, or flatters: once each.
std::string remarks(const std::vector<Scored>& rows) {
  std::set<std::string> said;
  std::string html;
  for (const Scored& row : rows) {
    for (const char* key : {"reason", "note"}) {
      const Json text = field(row.scores, key);
      if (!text.is_string()) continue;
      const std::string remark = str("Run '", row.run, "', ", row.finding, ", ", row.scored_by,
                                     ": ", text.get<std::string>(), ".");
      if (said.insert(remark).second) html += html_remark(remark);
    }
  }
  return html;
}

}  // namespace

std::string result_section(const Json& figures) {
  const std::vector<Scored> main_rows = scored_rows(figures, /*all_splits=*/false);
  if (main_rows.empty()) return "";
  const std::string finding = figures.at("finding");
  std::string html = "<div class=\"charts\">\n" +
                     plot(main_rows, finding, "auc", "AUC, " + finding, 0.5) +
                     plot(main_rows, finding, "f1", "F1, " + finding, std::nullopt) + "</div>\n";
  html += html_remark(
      "Bars are 95 % intervals from resampling patients. Filled: scored by prompts, no label used. "
      "Hollow: "
      "linear probe on the image features, fitted on the training split's labels. Thresholds (F1, "
      "sensitivity, "
      "specificity) come from the validation split.");
  const std::vector<Scored> all_rows = scored_rows(figures, /*all_splits=*/true);
  return html_section("How well it tells", html + table(all_rows) + remarks(all_rows));
}

std::string retrieval_section(const Json& figures) {
  std::vector<std::vector<std::string>> cells;
  for (const Json& run : figures.at("runs")) {
    for (const Json& evaluation : run.at("evaluations")) {
      const Json retrieval = field(evaluation, "retrieval");
      for (const char* direction : {"image_to_text", "text_to_image"}) {
        const Json values = field(retrieval, direction);
        if (!values.is_object()) continue;
        cells.push_back(
            {run.at("name").get<std::string>(), sites_text(evaluation),
             evaluation.at("split").get<std::string>(),
             std::string(direction) == "image_to_text" ? "image to report" : "report to image",
             count_text(field(retrieval, "n")), count_text(field(retrieval, "distinct_reports")),
             score_text(field(values, "recall_at_1")), score_text(field(values, "recall_at_5")),
             score_text(field(values, "recall_at_10")), number_text(field(values, "median_rank"))});
      }
    }
  }
  using enum ColumnKind;
  const std::string html = html_table({{"run"},
                                       {"sites"},
                                       {"split"},
                                       {"direction"},
                                       {"pool", kNumber},
                                       {"distinct reports", kNumber},
                                       {"recall@1", kNumber},
                                       {"recall@5", kNumber},
                                       {"recall@10", kNumber},
                                       {"median rank", kNumber}},
                                      cells);
  return html_section("Finding the partner", html);
}

}  // namespace triphase::trainer
