// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer/report/draw/charts.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace triphase::trainer {

inline constexpr double kChartWidth = 420;

/// Values on one axis, and where they lie.
struct Axis {
  double low = 0;
  double high = 1;
  bool is_log = false;
  double from = 0;  ///< in the drawing
  double to = 1;
  [[nodiscard]] double at(double value) const { return from + share(value) * (to - from); }
  [[nodiscard]] bool holds(double value) const {
    return std::isfinite(value) && (!is_log || value > 0);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    return is_log ? log_ticks(low, high) : axis_ticks(low, high);
  }

 private:
  [[nodiscard]] double share(double value) const {
    return is_log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }
};

/// @name Pieces of SVG; texts are escaped, coordinates rounded to a tenth.
/// @{
[[nodiscard]] std::string coordinate(double value);
[[nodiscard]] std::string svg_text(double x, double y, const std::string& css,
                                   const std::string& content);
[[nodiscard]] std::string svg_line(double x1, double y1, double x2, double y2,
                                   const std::string& css);
[[nodiscard]] std::string open_svg(double height, const std::string& title,
                                   const std::string& description);
/// A series' own shape, one of six; hollow ones are drawn as a ring of it.
[[nodiscard]] std::string svg_marker(std::size_t index, bool is_hollow, double x, double y,
                                     double radius);
/// @}

/// Tick texts: decimals that tell them apart; on a log axis each its own.
[[nodiscard]] std::vector<std::string> tick_texts(const Axis& axis,
                                                  const std::vector<double>& ticks);

/// The first characters and "…" where a text is longer. Counts UTF-8 characters.
[[nodiscard]] std::string shortened(const std::string& text, std::size_t max_characters);

}  // namespace triphase::trainer
