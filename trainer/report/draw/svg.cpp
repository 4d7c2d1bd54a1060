// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/draw/svg.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace triphase::trainer {
namespace {

constexpr double kWidth = 420;
constexpr std::size_t kMaxPoints = 400;  // of one line; more would not be seen

/// Where the axes lie, and values on them.
struct Frame {
  double left = 48;
  double right = kWidth - 12;
  double top = 12;
  double bottom = 210;
  double x_low = 0;
  double x_high = 1;
  double y_low = 0;
  double y_high = 1;
  [[nodiscard]] double x(double value) const {
    return left + (value - x_low) / (x_high - x_low) * (right - left);
  }
  [[nodiscard]] double y(double value) const {
    return bottom - (value - y_low) / (y_high - y_low) * (bottom - top);
  }
};

std::string at(double value) { return decimal(value, 1); }

std::string text(double x, double y, const char* css, const std::string& content) {
  return str("<text x=\"", at(x), "\" y=\"", at(y), "\" class=\"", css, "\">", escape_html(content),
             "</text>");
}

std::string line(double x1, double y1, double x2, double y2, const char* css) {
  return str("<line x1=\"", at(x1), "\" y1=\"", at(y1), "\" x2=\"", at(x2), "\" y2=\"", at(y2),
             "\" class=\"", css, "\"/>");
}

std::string open_svg(double height, const std::string& title) {
  return str("<figure><figcaption>", escape_html(title), "</figcaption><svg viewBox=\"0 0 ",
             at(kWidth), " ", at(height), "\" role=\"img\"><title>", escape_html(title),
             "</title>\n");
}

std::string close_svg() { return "</svg></figure>\n"; }

/// Decimals that tell the ticks apart.
int tick_digits(const std::vector<double>& ticks) {
  if (ticks.size() < 2) return 2;
  const double step = ticks[1] - ticks[0];
  return std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 6);
}

std::string polyline(const Json& points, const Frame& frame, const std::string& css,
                     const std::string& dash, const std::string& name) {
  const std::size_t stride = (points.size() + kMaxPoints - 1) / kMaxPoints;
  std::string coordinates;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (i % stride != 0 && i + 1 != points.size()) continue;
    coordinates += str(coordinates.empty() ? "" : " ", at(frame.x(points[i][0].get<double>())), ",",
                       at(frame.y(points[i][1].get<double>())));
  }
  return str("<polyline class=\"", css, "\" points=\"", coordinates, "\"",
             dash.empty() ? "" : " stroke-dasharray=\"" + dash + "\"", "><title>",
             escape_html(name), "</title></polyline>\n");
}

std::string axes(const Frame& frame, const std::vector<double>& x_ticks,
                 const std::vector<double>& y_ticks, const std::string& x_label) {
  std::string svg;
  const int y_digits = tick_digits(y_ticks);
  for (const double tick : y_ticks) {
    svg += line(frame.left, frame.y(tick), frame.right, frame.y(tick), "grid");
    svg += text(frame.left - 6, frame.y(tick) + 4, "tick end", decimal(tick, y_digits));
  }
  for (const double tick : x_ticks)
    svg +=
        text(frame.x(tick), frame.bottom + 16, "tick middle", decimal(tick, tick_digits(x_ticks)));
  svg += line(frame.left, frame.bottom, frame.right, frame.bottom, "axis");
  svg += text(frame.right, frame.bottom + 32, "tick end", x_label);
  return svg + "\n";
}

/// Lowest and highest of all points, widened where they are one.
bool fit(const LineChart& chart, Frame& frame) {
  double x_low = std::numeric_limits<double>::infinity();
  double y_low = x_low;
  double x_high = -x_low;
  double y_high = -x_low;
  std::size_t longest = 0;
  for (const LineSeries& series : chart.series) {
    longest = std::max(longest, series.points.size());
    for (const Json* points : {&series.points, &series.faint}) {
      for (const Json& point : *points) {
        x_low = std::min(x_low, point[0].get<double>());
        x_high = std::max(x_high, point[0].get<double>());
        y_low = std::min(y_low, point[1].get<double>());
        y_high = std::max(y_high, point[1].get<double>());
      }
    }
  }
  if (longest < 2) return false;
  if (!(y_high > y_low)) {
    const double half = std::max(std::abs(y_low) * 0.05, 1e-3);
    y_low -= half;
    y_high += half;
  }
  frame.x_low = x_low;
  frame.x_high = std::max(x_high, x_low + 1);
  frame.y_low = y_low;
  frame.y_high = y_high;
  return true;
}

std::string marker(const IntervalRow& row, double x, double y) {
  if (row.is_hollow)
    return str("<rect class=\"hollow\" x=\"", at(x - 4.5), "\" y=\"", at(y - 4.5),
               "\" width=\"9\" height=\"9\"/>");
  return str("<circle class=\"dot\" cx=\"", at(x), "\" cy=\"", at(y), "\" r=\"5\"/>");
}

}  // namespace

std::string series_class(std::size_t index) { return str("c", index % 6); }

std::string series_dash(std::size_t index) {
  // A new pattern with each colour, and another order of patterns once the colours are used up.
  constexpr std::array<const char*, 4> kPatterns{"", "7 3", "2 3", "9 3 2 3"};
  return kPatterns.at((index + index / 6) % kPatterns.size());
}

std::vector<double> axis_ticks(double low, double high) {
  const double rough = (high - low) / 5;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double lead = rough / power;
  const double step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
  std::vector<double> ticks;
  for (double tick = std::ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step)
    ticks.push_back(std::abs(tick) < step * 1e-9 ? 0.0 : tick);
  return ticks;
}

std::string line_chart(const LineChart& chart) {
  Frame frame;
  if (!fit(chart, frame)) return "";
  const std::vector<double> y_ticks = axis_ticks(frame.y_low, frame.y_high);
  const std::vector<double> x_ticks = axis_ticks(frame.x_low, frame.x_high);
  std::string svg =
      open_svg(frame.bottom + 38, chart.title) + axes(frame, x_ticks, y_ticks, chart.x_label);
  for (const LineSeries& series : chart.series)
    if (series.faint.is_array() && !series.faint.empty())
      svg += polyline(series.faint, frame, "faint " + series_class(series.index), "", series.name);
  for (const LineSeries& series : chart.series)
    if (!series.points.empty())
      svg += polyline(series.points, frame, "curve " + series_class(series.index),
                      series_dash(series.index), series.name);
  return svg + close_svg();
}

std::string interval_plot(const IntervalPlot& plot) {
  if (plot.rows.empty()) return "";
  constexpr double kRowHeight = 38;
  Frame frame;
  frame.left = 16;  // room for half a tick label
  frame.right = kWidth - 16;
  frame.bottom = 10 + kRowHeight * static_cast<double>(plot.rows.size());
  frame.x_low = plot.rows.front().value;
  frame.x_high = frame.x_low;
  for (const IntervalRow& row : plot.rows) {
    frame.x_low =
        std::min({frame.x_low, row.value, row.interval ? row.interval->first : row.value});
    frame.x_high =
        std::max({frame.x_high, row.value, row.interval ? row.interval->second : row.value});
  }
  frame.x_low = std::max(0.0, std::floor((frame.x_low - 0.02) * 20) / 20);
  frame.x_high =
      std::min(1.0, std::max(std::ceil((frame.x_high + 0.01) * 20) / 20, frame.x_low + 0.1));
  std::string svg = open_svg(frame.bottom + 24, plot.title);
  const std::vector<double> ticks = axis_ticks(frame.x_low, frame.x_high);
  for (const double tick : ticks) {
    svg += line(frame.x(tick), frame.top, frame.x(tick), frame.bottom, "grid");
    svg += text(frame.x(tick), frame.bottom + 16, "tick middle", decimal(tick, tick_digits(ticks)));
  }
  if (plot.reference && *plot.reference > frame.x_low && *plot.reference < frame.x_high)
    svg += line(frame.x(*plot.reference), frame.top, frame.x(*plot.reference), frame.bottom,
                "reference");
  double y = 10;
  for (const IntervalRow& row : plot.rows) {
    svg += text(frame.left, y + 14, "label", row.label);
    svg += text(frame.right, y + 14, "label end", row.value_text);
    svg += str("<g class=\"", series_class(row.index), "\"><title>",
               escape_html(row.label + ": " + row.value_text), "</title>");
    if (row.interval)
      svg += line(frame.x(row.interval->first), y + 26, frame.x(row.interval->second), y + 26,
                  "whisker");
    svg += marker(row, frame.x(row.value), y + 26) + "</g>\n";
    y += kRowHeight;
  }
  return svg + close_svg();
}

std::string stacked_bars(const StackedBars& bars) {
  double longest = 0;
  for (const StackedRow& row : bars.rows) {
    double total = 0;
    for (const double part : row.parts) total += part;
    longest = std::max(longest, total);
  }
  if (!(longest > 0)) return "";
  constexpr double kRowHeight = 42;
  const double height = 6 + kRowHeight * static_cast<double>(bars.rows.size());
  std::string svg = open_svg(height, bars.title);
  double y = 4;
  for (const StackedRow& row : bars.rows) {
    svg += text(0, y + 12, "label", row.label) + text(kWidth, y + 12, "label end", row.value_text);
    double x = 0;
    for (std::size_t i = 0; i < row.parts.size(); ++i) {
      const double width = row.parts[i] / longest * kWidth;
      svg += str("<rect class=\"bar ", series_class(i), "\" x=\"", at(x), "\" y=\"", at(y + 18),
                 "\" width=\"", at(width), "\" height=\"16\"><title>",
                 escape_html(bars.part_names.at(i)), " ", seconds_text(row.parts[i]),
                 "</title></rect>");
      x += width;
    }
    svg += "\n";
    y += kRowHeight;
  }
  return svg + close_svg();
}

}  // namespace triphase::trainer
