// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace triphase::trainer {

/// Drawings of the report: inline SVG, 420 units wide so that they stay readable on a phone,
/// coloured through the page's classes c0 ... c5 (see page.cpp). Texts are escaped here.

/// Colour class and dash pattern of a run; no two of the first 24 look alike, in grey neither.
[[nodiscard]] std::string series_class(std::size_t index);
[[nodiscard]] std::string series_dash(std::size_t index);

struct LineSeries {
  std::string name;
  std::size_t index = 0;  ///< decides the look
  Json points;            ///< [[x, y], ...]
  Json faint;             ///< the same before smoothing; null: none
};
struct LineChart {
  std::string title;
  std::string x_label;
  std::vector<LineSeries> series;
  int digits = 2;  ///< of the y axis
};
/// "" when no series has two points.
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
  std::vector<IntervalRow> rows;
  std::optional<double> reference;  ///< a dashed line, e.g. AUC 0.5
};
/// "" without rows.
[[nodiscard]] std::string interval_plot(const IntervalPlot& plot);

struct StackedRow {
  std::string label;
  std::string value_text;
  std::vector<double> parts;
};
struct StackedBars {
  std::string title;
  std::vector<std::string> part_names;
  std::vector<StackedRow> rows;
};
[[nodiscard]] std::string stacked_bars(const StackedBars& bars);

/// Four to seven round numbers that cover [low, high].
[[nodiscard]] std::vector<double> axis_ticks(double low, double high);

}  // namespace triphase::trainer
