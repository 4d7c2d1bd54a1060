// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "trainer/report/draw/frame.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>

namespace triphase::trainer {
namespace {

constexpr std::size_t kMaxWideRows = 12;

std::string ticks_below(const Axis& x, double top, double bottom) {
  std::string svg;
  const std::vector<double> ticks = x.ticks();
  const std::vector<std::string> texts = tick_texts(x, ticks);
  for (std::size_t i = 0; i < ticks.size(); ++i)
    svg += svg_line(x.at(ticks[i]), top, x.at(ticks[i]), bottom, "grid") +
           svg_text(x.at(ticks[i]), bottom + 16, "tick middle", texts[i]);
  return svg;
}

/// Low and high end of all rows, in steps of 0.05 within [0, 1].
Axis interval_axis(const IntervalPlot& plot, double from, double to) {
  Axis x{.low = plot.rows.front().value, .high = plot.rows.front().value, .from = from, .to = to};
  for (const IntervalRow& row : plot.rows) {
    x.low = std::min({x.low, row.value, row.interval ? row.interval->first : row.value});
    x.high = std::max({x.high, row.value, row.interval ? row.interval->second : row.value});
  }
  x.low = std::max(0.0, std::floor((x.low - 0.02) * 20) / 20);
  x.high = std::min(1.0, std::max(std::ceil((x.high + 0.01) * 20) / 20, x.low + 0.1));
  return x;
}

std::string interval_row(const IntervalRow& row, const Axis& x, double y, double radius) {
  std::string svg = str("<g class=\"", series_class(row.index), "\"><title>",
                        escape_html(row.label + ": " + row.value_text), "</title>");
  if (row.interval)
    svg += svg_line(x.at(row.interval->first), y, x.at(row.interval->second), y, "whisker");
  return svg + svg_marker(row.index, row.is_hollow, x.at(row.value), y, radius) + "</g>\n";
}

}  // namespace

std::string interval_plot(const IntervalPlot& plot) {
  if (plot.rows.empty()) return "";
  const bool is_narrow = plot.rows.size() > kMaxWideRows;
  const double row_height = is_narrow ? 17 : 38;
  const double top = 10;
  const double bottom = top + row_height * static_cast<double>(plot.rows.size());
  // Wide rows have room for half a tick label on either side, narrow ones for their text.
  const Axis x = is_narrow ? interval_axis(plot, 150, 290)
                           : interval_axis(plot, 16, kChartWidth - 16);
  std::string svg =
      open_svg(bottom + 24, plot.title, plot.description) + ticks_below(x, top, bottom);
  if (plot.reference && *plot.reference > x.low && *plot.reference < x.high)
    svg += svg_line(x.at(*plot.reference), top, x.at(*plot.reference), bottom, "reference");
  double y = top;
  for (const IntervalRow& row : plot.rows) {
    if (is_narrow) {
      svg += svg_text(0, y + 12, "small", shortened(row.label, 23)) +
             svg_text(kChartWidth, y + 12, "small end", row.value_text) +
             interval_row(row, x, y + 8, 3.5);
    } else {
      svg += svg_text(16, y + 14, "label", shortened(row.label, 34)) +
             svg_text(kChartWidth - 16, y + 14, "label end", row.value_text) +
             interval_row(row, x, y + 26, 5);
    }
    y += row_height;
  }
  return svg + "</svg>\n";
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
  std::string svg = open_svg(height, bars.title, bars.description);
  double y = 4;
  for (const StackedRow& row : bars.rows) {
    svg += svg_text(0, y + 12, "label", shortened(row.label, 44)) +
           svg_text(kChartWidth, y + 12, "label end", row.value_text);
    double x = 0;
    for (std::size_t i = 0; i < row.parts.size(); ++i) {
      const double width = row.parts[i] / longest * kChartWidth;
      svg += str("<rect class=\"bar part ", series_class(i), "\" x=\"", coordinate(x), "\" y=\"",
                 coordinate(y + 18), "\" width=\"", coordinate(width), "\" height=\"16\"><title>",
                 escape_html(bars.part_names.at(i)), " ", seconds_text(row.parts[i]),
                 "</title></rect>");
      x += width;
    }
    svg += "\n";
    y += kRowHeight;
  }
  return svg + "</svg>\n";
}

std::string share_bars(const ShareBars& chart) {
  if (chart.rows.empty()) return "";
  constexpr double kBarHeight = 15;
  double height = 6;
  for (const ShareRow& row : chart.rows)
    height += 26 + kBarHeight * static_cast<double>(row.bars.size());
  const Axis x{.low = 0, .high = 1, .from = 60, .to = kChartWidth - 52};
  std::string svg = open_svg(height + 20, chart.title, chart.description) +
                    ticks_below(x, 6, height);
  double y = 6;
  for (const ShareRow& row : chart.rows) {
    svg += svg_text(0, y + 14, "label", shortened(row.label, 44)) + "<g class=\"" +
           series_class(row.index) + "\">";
    y += 20;
    for (const ShareBar& bar : row.bars) {
      svg += svg_text(52, y + 11, "small end", bar.label);
      svg += str("<rect class=\"bar\" x=\"", coordinate(x.from), "\" y=\"", coordinate(y + 2),
                 "\" width=\"", coordinate(x.at(bar.share) - x.from), "\" height=\"11\"/>");
      if (bar.chance)
        svg += svg_line(x.at(*bar.chance), y, x.at(*bar.chance), y + kBarHeight, "chance");
      svg += svg_text(kChartWidth, y + 11, "small end", decimal(bar.share, 3));
      y += kBarHeight;
    }
    svg += "</g>\n";
    y += 6;
  }
  return svg + "</svg>\n";
}

std::string heat_map(const HeatMap& map) {
  if (map.rows.empty() || map.columns.empty()) return "";
  constexpr double kCellHeight = 30;
  constexpr double kLeft = 150;
  const double width = (kChartWidth - kLeft) / static_cast<double>(map.columns.size());
  const auto letters = static_cast<std::size_t>(std::max(3.0, width / 7.5));
  const double height = 46 + kCellHeight * static_cast<double>(map.rows.size());
  std::string svg = open_svg(height, map.title, map.description);
  svg += svg_text(0, 32, "small", "↓ " + map.row_title) +
         svg_text(kChartWidth, 12, "small end", map.column_title + " →");
  for (std::size_t j = 0; j < map.columns.size(); ++j)
    svg += svg_text(kLeft + width * (static_cast<double>(j) + 0.5), 32, "small middle",
                    shortened(map.columns[j], letters));
  for (std::size_t i = 0; i < map.rows.size(); ++i) {
    const double y = 40 + kCellHeight * static_cast<double>(i);
    svg += svg_text(0, y + 19, "small", shortened(map.rows[i], 23));
    for (std::size_t j = 0; j < map.columns.size(); ++j) {
      const std::optional<double> value = map.values.at(i).at(j);
      const double share =
          value ? std::clamp((*value - map.low) / (map.high - map.low), 0.0, 1.0) : 0;
      const double x = kLeft + width * static_cast<double>(j);
      svg += str("<rect class=\"", value ? "heat" : "empty", "\" x=\"", coordinate(x + 1), "\" y=\"",
                 coordinate(y + 1), "\" width=\"", coordinate(width - 2), "\" height=\"",
                 coordinate(kCellHeight - 2), "\" fill-opacity=\"", decimal(0.04 + 0.46 * share, 3),
                 "\"><title>", escape_html(map.rows[i] + ", " + map.columns[j]), "</title></rect>");
      svg += svg_text(x + width / 2, y + 19, "small middle", value ? decimal(*value, 3) : "–");
    }
    svg += "\n";
  }
  return svg + "</svg>\n";
}

}  // namespace triphase::trainer
