// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace triphase::trainer {

/// Drawings of the report: inline SVG, 420 units wide so that they stay readable on a phone,
/// coloured through the page's classes c0 ... c5 (see page/style.cpp). Texts are escaped here. Each
/// is an image with its title and description as its name; its numbers stand in a table beside it.

/// Colour class and dash pattern of a series; no two of the first 24 look alike, in grey neither.
[[nodiscard]] std::string series_class(std::size_t index);
[[nodiscard]] std::string series_dash(std::size_t index);

struct LineSeries {
  std::string name;
  std::size_t index = 0;         ///< decides the look
  Json points = Json::array();   ///< [[x, y], ...]
  Json band = Json::array();     ///< [[x, low, high], ...]: an area; of single points: whiskers
  Json marked = Json::array();   ///< [[x, y], ...] ringed: the best step
  bool has_line = true;
  bool has_dots = false;
  bool is_thin = false;    ///< one of many, or the lesser of two
  bool is_hollow = false;  ///< dots of a second kind
};
struct LineChart {
  std::string title;
  std::string description;  ///< for those who do not see it
  std::string x_label;
  std::string y_label;
  std::vector<LineSeries> series;
  bool is_x_log = false;  ///< values that are not positive are left out
  bool is_y_log = false;
  std::optional<std::pair<double, double>> x_range = {};  ///< else that of the points
  std::optional<std::pair<double, double>> y_range = {};
  bool has_diagonal = false;           ///< dashed, y = x
  std::optional<double> reference = {};  ///< dashed, a y
};
/// "" when no series has a dot or a line of two points.
[[nodiscard]] std::string line_chart(const LineChart& chart);

struct IntervalRow {
  std::string label;
  std::string value_text;  ///< printed beside it
  std::size_t index = 0;
  bool is_hollow = false;  ///< a second kind of value (the linear probe)
  double value = 0;
  std::optional<std::pair<double, double>> interval;
};
struct IntervalPlot {
  std::string title;
  std::string description;
  std::vector<IntervalRow> rows;
  std::optional<double> reference;  ///< a dashed line, e.g. AUC 0.5
};
/// Narrow rows, their labels cut, when there are more than a dozen. "" without rows.
[[nodiscard]] std::string interval_plot(const IntervalPlot& plot);

struct StackedRow {
  std::string label;
  std::string value_text;
  std::vector<double> parts;
};
struct StackedBars {
  std::string title;
  std::string description;
  std::vector<std::string> part_names;
  std::vector<StackedRow> rows;
};
[[nodiscard]] std::string stacked_bars(const StackedBars& bars);

struct ShareBar {
  std::string label;
  double share = 0;              ///< in [0, 1]
  std::optional<double> chance;  ///< a tick across the bar
};
struct ShareRow {
  std::string label;
  std::size_t index = 0;
  std::vector<ShareBar> bars;
};
struct ShareBars {
  std::string title;
  std::string description;
  std::vector<ShareRow> rows;
};
[[nodiscard]] std::string share_bars(const ShareBars& chart);

struct HeatMap {
  std::string title;
  std::string description;
  std::string row_title;
  std::string column_title;
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<std::vector<std::optional<double>>> values;  ///< in [low, high], a row of each row
  double low = 0.5;
  double high = 1;
};
[[nodiscard]] std::string heat_map(const HeatMap& map);

/// A series' line, dot and colour, for a legend.
[[nodiscard]] std::string legend_sample(std::size_t index);

/// Four to seven round numbers that cover [low, high].
[[nodiscard]] std::vector<double> axis_ticks(double low, double high);
/// 1, 2 and 5 times powers of ten within [low, high], fewer where they are many. @param low > 0
[[nodiscard]] std::vector<double> log_ticks(double low, double high);

}  // namespace triphase::trainer
