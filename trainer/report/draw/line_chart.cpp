// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/frame.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>
#include <limits>

namespace triphase::trainer {
namespace {

constexpr double kTop = 14;
constexpr double kBottom = 216;
constexpr double kLeft = 52;
constexpr double kRight = kChartWidth - 14;
constexpr std::size_t kMaxPoints = 400;         // of one line; more would not be seen
constexpr std::size_t kMaxChartPoints = 8'000;  // of all lines, so that a page stays small

struct Plane {
  Axis x;
  Axis y;
  [[nodiscard]] bool holds(const Json& point) const {
    return point.is_array() && point.size() >= 2 && point[0].is_number() && point[1].is_number() &&
           x.holds(point[0].get<double>()) && y.holds(point[1].get<double>());
  }
  [[nodiscard]] std::string at(double x_value, double y_value) const {
    return coordinate(x.at(x_value)) + "," + coordinate(y.at(y_value));
  }
};

/// Lowest and highest value seen.
struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

/// Room for the extent; where it is one value, some around it.
void set_range(Axis& axis, Extent extent, double margin,
               const std::optional<std::pair<double, double>>& given) {
  if (given) {
    axis.low = given->first;
    axis.high = given->second;
    return;
  }
  if (axis.is_log) {
    const double factor = std::max(std::pow(extent.high / extent.low, margin), 1.1);
    axis.low = extent.low / factor;
    axis.high = extent.high * factor;
    return;
  }
  if (!(extent.high > extent.low)) {
    const double half = std::max(std::abs(extent.low) * 0.05, 1e-3);
    extent = {extent.low - half, extent.high + half};
  }
  const double room = (extent.high - extent.low) * margin;
  axis.low = extent.low - room;
  axis.high = extent.high + room;
}

/// @return whether there is something to draw
bool fit(const LineChart& chart, Plane& plane) {
  plane.x = {.is_log = chart.is_x_log, .from = kLeft, .to = kRight};
  plane.y = {.is_log = chart.is_y_log, .from = kBottom, .to = kTop};
  Extent x;
  Extent y;
  bool is_drawn = false;
  for (const LineSeries& series : chart.series) {
    std::size_t held = 0;
    for (const Json& point : series.points) {
      if (!plane.holds(point)) continue;
      ++held;
      x.take(point[0].get<double>());
      y.take(point[1].get<double>());
    }
    for (const Json& point : series.band) {
      if (!plane.holds(point) || !point[2].is_number()) continue;
      y.take(point[1].get<double>());
      y.take(point[2].get<double>());
    }
    is_drawn = is_drawn || held >= 2 || (held == 1 && series.has_dots);
  }
  if (!is_drawn) return false;
  const bool has_dots = std::any_of(chart.series.begin(), chart.series.end(),
                                    [](const LineSeries& series) { return series.has_dots; });
  if (chart.reference && y.low > y.high - 1e-12) y.take(*chart.reference);
  set_range(plane.x, x, has_dots ? 0.04 : 0, chart.x_range);
  set_range(plane.y, y, 0.04, chart.y_range);
  return true;
}

std::string axes(const LineChart& chart, const Plane& plane) {
  std::string svg;
  const std::vector<double> y_ticks = plane.y.ticks();
  const std::vector<std::string> y_texts = tick_texts(plane.y, y_ticks);
  for (std::size_t i = 0; i < y_ticks.size(); ++i) {
    const double y = plane.y.at(y_ticks[i]);
    svg += svg_line(kLeft, y, kRight, y, "grid") + svg_text(kLeft - 6, y + 4, "tick end", y_texts[i]);
  }
  const std::vector<double> x_ticks = plane.x.ticks();
  const std::vector<std::string> x_texts = tick_texts(plane.x, x_ticks);
  for (std::size_t i = 0; i < x_ticks.size(); ++i) {
    const double x = plane.x.at(x_ticks[i]);
    svg += svg_line(x, kBottom, x, kBottom + 4, "axis") +
           svg_text(x, kBottom + 18, "tick middle", x_texts[i]);
  }
  svg += svg_line(kLeft, kBottom, kRight, kBottom, "axis");
  svg += svg_text(kRight, kBottom + 36, "tick end", chart.x_label);
  svg += svg_text(2, kBottom + 36, "tick", chart.y_label.empty() ? "" : "↑ " + chart.y_label);
  return svg + "\n";
}

/// "x,y x,y ..." of the points that the plane holds, thinned; every end is kept.
std::string path(const Json& points, const Plane& plane, std::size_t max_points) {
  const std::size_t stride = (points.size() + max_points - 1) / max_points;
  std::string coordinates;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if ((i % stride != 0 && i + 1 != points.size()) || !plane.holds(points[i])) continue;
    coordinates += (coordinates.empty() ? "" : " ") +
                   plane.at(points[i][0].get<double>(), points[i][1].get<double>());
  }
  return coordinates;
}

std::string area(const LineSeries& series, const Plane& plane) {
  std::string there;
  std::string back;
  for (const Json& point : series.band) {
    if (!plane.holds(point) || !point[2].is_number()) continue;
    const double x = point[0].get<double>();
    there += plane.at(x, point[1].get<double>()) + " ";
    back = plane.at(x, point[2].get<double>()) + (back.empty() ? "" : " ") + back;
  }
  return there.empty() ? "" : str("<polygon class=\"band\" points=\"", there, back, "\"/>\n");
}

std::string whiskers(const LineSeries& series, const Plane& plane) {
  std::string svg;
  for (const Json& point : series.band) {
    if (!plane.holds(point) || !point[2].is_number()) continue;
    const double x = plane.x.at(point[0].get<double>());
    svg += svg_line(x, plane.y.at(point[1].get<double>()), x, plane.y.at(point[2].get<double>()),
                    "thin");
  }
  return svg;
}

std::string drawn(const LineSeries& series, const Plane& plane, std::size_t max_points) {
  std::string svg = str("<g class=\"", series_class(series.index), "\"><title>",
                        escape_html(series.name), "</title>");
  svg += series.has_line ? area(series, plane) : whiskers(series, plane);
  const std::string line = series.has_line ? path(series.points, plane, max_points) : "";
  if (!line.empty()) {
    const std::string dash = series_dash(series.index);
    svg += str("<polyline class=\"curve", series.is_thin ? " thin" : "", "\" points=\"", line, "\"",
               dash.empty() ? "" : " stroke-dasharray=\"" + dash + "\"", "/>");
  }
  if (series.has_dots)
    for (const Json& point : series.points)
      if (plane.holds(point))
        svg += svg_marker(series.index, series.is_hollow, plane.x.at(point[0].get<double>()),
                          plane.y.at(point[1].get<double>()), series.is_thin ? 3 : 4);
  for (const Json& point : series.marked)
    if (plane.holds(point))
      svg += str("<circle class=\"ring\" cx=\"", coordinate(plane.x.at(point[0].get<double>())),
                 "\" cy=\"", coordinate(plane.y.at(point[1].get<double>())), "\" r=\"7\"/>");
  return svg + "</g>\n";
}

std::string references(const LineChart& chart, const Plane& plane) {
  std::string svg;
  const double low = std::max(plane.x.low, plane.y.low);
  const double high = std::min(plane.x.high, plane.y.high);
  if (chart.has_diagonal && high > low)
    svg += svg_line(plane.x.at(low), plane.y.at(low), plane.x.at(high), plane.y.at(high),
                    "reference");
  if (chart.reference && *chart.reference >= plane.y.low && *chart.reference <= plane.y.high)
    svg += svg_line(kLeft, plane.y.at(*chart.reference), kRight, plane.y.at(*chart.reference),
                    "reference");
  return svg;
}

}  // namespace

std::string line_chart(const LineChart& chart) {
  Plane plane;
  if (!fit(chart, plane)) return "";
  const std::size_t max_points =
      std::clamp(kMaxChartPoints / chart.series.size(), std::size_t{20}, kMaxPoints);
  std::string svg = open_svg(kBottom + 44, chart.title, chart.description) + axes(chart, plane) +
                    references(chart, plane);
  for (const LineSeries& series : chart.series) svg += drawn(series, plane, max_points);
  return svg + "</svg>\n";
}

}  // namespace triphase::trainer
