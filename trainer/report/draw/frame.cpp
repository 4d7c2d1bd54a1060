// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/draw/frame.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>
#include <array>

namespace triphase::trainer {
namespace {

std::string polygon(const std::string& css, double x, double y,
                    const std::vector<std::pair<double, double>>& corners, double radius) {
  std::string points;
  for (const auto& [dx, dy] : corners)
    points += str(points.empty() ? "" : " ", coordinate(x + dx * radius), ",",
                  coordinate(y + dy * radius));
  return str("<polygon class=\"", css, "\" points=\"", points, "\"/>");
}

}  // namespace

std::string series_class(std::size_t index) { return str("c", index % 6); }

std::string series_dash(std::size_t index) {
  // A new pattern with each colour, and another order of patterns once the colours are used up.
  constexpr std::array<const char*, 4> kPatterns{"", "7 3", "2 3", "9 3 2 3"};
  return kPatterns.at((index + index / 6) % kPatterns.size());
}

std::string coordinate(double value) { return decimal(value, 1); }

std::string svg_text(double x, double y, const std::string& css, const std::string& content) {
  return str("<text x=\"", coordinate(x), "\" y=\"", coordinate(y), "\" class=\"", css, "\">",
             escape_html(content), "</text>");
}

std::string svg_line(double x1, double y1, double x2, double y2, const std::string& css) {
  return str("<line x1=\"", coordinate(x1), "\" y1=\"", coordinate(y1), "\" x2=\"",
             coordinate(x2), "\" y2=\"", coordinate(y2), "\" class=\"", css, "\"/>");
}

std::string open_svg(double height, const std::string& title, const std::string& description) {
  const std::string name = title + (description.empty() ? "" : ". " + description);
  return str("<svg viewBox=\"0 0 ", coordinate(kChartWidth), " ", coordinate(height),
             "\" role=\"img\" aria-label=\"", escape_html(name), "\">\n");
}

std::string svg_marker(std::size_t index, bool is_hollow, double x, double y, double radius) {
  const std::string css = is_hollow ? "hollow" : "dot";
  switch (index % 6) {
    case 1:
      return str("<rect class=\"", css, "\" x=\"", coordinate(x - 0.9 * radius), "\" y=\"",
                 coordinate(y - 0.9 * radius), "\" width=\"", coordinate(1.8 * radius),
                 "\" height=\"", coordinate(1.8 * radius), "\"/>");
    case 2:
      return polygon(css, x, y, {{0, -1.2}, {1.1, 0.8}, {-1.1, 0.8}}, radius);
    case 3:
      return polygon(css, x, y, {{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}}, radius);
    case 4:
      return polygon(css, x, y, {{0, 1.2}, {1.1, -0.8}, {-1.1, -0.8}}, radius);
    case 5:
      return polygon(css, x, y,
                     {{-0.4, -1.2}, {0.4, -1.2}, {0.4, -0.4}, {1.2, -0.4}, {1.2, 0.4}, {0.4, 0.4},
                      {0.4, 1.2}, {-0.4, 1.2}, {-0.4, 0.4}, {-1.2, 0.4}, {-1.2, -0.4}, {-0.4, -0.4}},
                     radius);
    default:
      return str("<circle class=\"", css, "\" cx=\"", coordinate(x), "\" cy=\"", coordinate(y),
                 "\" r=\"", coordinate(radius), "\"/>");
  }
}

std::string legend_sample(std::size_t index) {
  const std::string dash = series_dash(index);
  return str("<svg class=\"sample ", series_class(index),
             "\" viewBox=\"0 0 36 12\" aria-hidden=\"true\"><line class=\"curve\" x1=\"0\" y1=\"6\" "
             "x2=\"36\" y2=\"6\"",
             dash.empty() ? "" : " stroke-dasharray=\"" + dash + "\"", "/>",
             svg_marker(index, false, 18, 6, 4), "</svg>");
}

std::vector<double> axis_ticks(double low, double high) {
  const double rough = (high - low) / 5;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    step = factor * power;
    if (step >= rough) break;
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i)
    ticks.push_back(i * step + 0.0);  // no minus zero
  return ticks;
}

std::vector<double> log_ticks(double low, double high) {
  const auto within = [&](const std::vector<double>& factors) {
    std::vector<double> ticks;
    for (double power = std::floor(std::log10(low)); power <= std::ceil(std::log10(high)); ++power)
      for (const double factor : factors) {
        const double tick = factor * std::pow(10.0, power);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
      }
    return ticks;
  };
  const std::vector<double> dense = within({1, 2, 5});
  if (dense.size() <= 7) return dense;
  return within({1});
}

std::vector<std::string> tick_texts(const Axis& axis, const std::vector<double>& ticks) {
  std::vector<std::string> texts;
  const double step = ticks.size() < 2 ? 0.01 : ticks[1] - ticks[0];
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 6);
  for (const double tick : ticks)
    texts.push_back(axis.is_log ? number_text(tick) : decimal(tick, digits));
  return texts;
}

std::string shortened(const std::string& text, std::size_t max_characters) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;  // inside a character
    if (++characters > max_characters) return text.substr(0, i) + "…";
  }
  return text;
}

}  // namespace triphase::trainer
