// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/headline.hpp"
#include "trainer/report/page.hpp"
#include "trainer/report/page/html.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxBarRows = 8;

/// The AUC of the page's finding by site, of a run's main evaluation.
std::map<std::string, double> aucs_by_site(const Json& figures, const Json& run) {
  std::map<std::string, double> aucs;
  const Json* evaluation = main_evaluation(run);
  if (evaluation == nullptr || !figures.at("finding").is_string()) return aucs;
  const std::string finding = figures.at("finding");
  for (const Json& part : member(*evaluation, "by_site")) {
    const auto auc = number(member(member(part, "findings"), finding.c_str()), "auc");
    if (auc && member(part, "site").is_string()) aucs[part.at("site").get<std::string>()] = *auc;
  }
  return aucs;
}

/// Rows: groups, by what they were trained on; the mean over a group's seeds.
std::string site_map(const Json& figures) {
  HeatMap map{.title = "AUC by training and test site",
              .description = "Rows: runs and what they were trained on; columns: the site that was "
                             "tested. The deeper, the higher; each cell holds its number.",
              .row_title = "trained on",
              .column_title = "tested on",
              .rows = {},
              .columns = {},
              .values = {}};
  std::vector<std::map<std::string, double>> rows;
  std::set<std::string> sites;
  for (const Json& group : figures.at("groups")) {
    std::map<std::string, std::pair<double, double>> sums;
    const Json& first = figures.at("runs")[group.at("runs")[0].get<std::size_t>()];
    for (const Json& place : group.at("runs"))
      for (const auto& [site, auc] :
           aucs_by_site(figures, figures.at("runs")[place.get<std::size_t>()])) {
        sums[site].first += auc;
        sums[site].second += 1;
      }
    if (sums.empty()) continue;
    rows.emplace_back();
    for (const auto& [site, sum] : sums) {
      rows.back()[site] = sum.first / sum.second;
      sites.insert(site);
    }
    map.rows.push_back(first.at("is_trained").get<bool>()
                           ? sites_text(first.at("trained_on")) + " · " +
                                 group.at("name").get<std::string>()
                           : group.at("name").get<std::string>());
  }
  if (sites.size() < 2) return "";
  map.columns.assign(sites.begin(), sites.end());
  double lowest = 0.5;
  for (const auto& row : rows) {
    std::vector<std::optional<double>>& values = map.values.emplace_back();
    for (const std::string& site : sites) {
      const auto found = row.find(site);
      values.push_back(found == row.end() ? std::nullopt : std::optional(found->second));
      if (found != row.end()) lowest = std::min(lowest, found->second);
    }
  }
  map.low = lowest;
  return html_figure(map.title, heat_map(map));
}

struct Recall {
  double sum = 0;
  std::size_t count = 0;
  std::optional<double> chance;
};

/// Mean recalls of a series' main evaluations in one direction.
ShareRow recalls(const Json& figures, std::size_t place, const char* direction) {
  const Json& series = figures.at("series")[place];
  ShareRow row{.label = series.at("name"), .index = place, .bars = {}};
  const std::size_t runs = series.at("runs").size();
  if (runs > 1) row.label += str(" (mean of ", runs, ")");
  for (const int k : {1, 5, 10, 50}) {
    Recall recall;
    for (const Json& i : series.at("runs")) {
      const Json* evaluation = main_evaluation(figures.at("runs")[i.get<std::size_t>()]);
      if (evaluation == nullptr) continue;
      const Json retrieval = member(*evaluation, "retrieval");
      const auto value =
          number(member(retrieval, direction), str("recall_at_", k).c_str());
      if (!value) continue;
      recall.sum += *value;
      ++recall.count;
      if (const auto pool = number(retrieval, "n"); pool && *pool >= 1)
        recall.chance = std::min(1.0, k / *pool);
    }
    if (recall.count > 0)
      row.bars.push_back(
          {str("@", k), recall.sum / static_cast<double>(recall.count), recall.chance});
  }
  return row;
}

std::string recall_chart(const Json& figures, const char* direction, const std::string& title) {
  ShareBars chart{.title = title,
                  .description = "Share of partners among the first 1, 5, 10 and 50 of the whole "
                                 "pool; the dark tick is chance.",
                  .rows = {}};
  for (std::size_t i = 0; i < figures.at("series").size() && i < kMaxBarRows; ++i) {
    ShareRow row = recalls(figures, i, direction);
    if (!row.bars.empty()) chart.rows.push_back(std::move(row));
  }
  return html_figure(title, share_bars(chart));
}

}  // namespace

std::string place_section(const Json& figures) {
  const std::string map = site_map(figures);
  std::string html = map.empty() ? "" : html_figures("", map) + folded_tables(figures, {"sites"});
  if (map.empty()) html += shown_table(figures, "sites");
  html += shown_table(figures, "subgroups");
  if (html.empty()) return "";
  return html_section("places", "Sites and subgroups",
                      html + html_remark("Parts of a split are small: their intervals are wide, and "
                                         "among many parts some look good or bad by chance."));
}

std::string retrieval_section(const Json& figures) {
  const std::string charts =
      recall_chart(figures, "image_to_text", "Recall, image to report") +
      recall_chart(figures, "text_to_image", "Recall, report to image");
  const Json* table = find_table(figures, "retrieval");
  if (table == nullptr) return "";
  const bool is_long = table->at("rows").size() > 2 * kMaxBarRows;
  return html_section(
      "retrieval", "Finding the partner",
      html_figures("", charts) +
          (is_long ? folded_tables(figures, {"retrieval"}) : shown_table(figures, "retrieval")));
}

}  // namespace triphase::trainer
