// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/format.hpp"

#include "base/error.hpp"

#include <array>
#include <cmath>
#include <cstdio>

namespace triphase::trainer {
namespace {

constexpr const char* kNothing = "–";

}  // namespace

std::string escape_html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '\n':
      case '\t':
        result += c;
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
  }
  return result;
}

std::string decimal(double value, int digits) {
  if (!std::isfinite(value)) return kNothing;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string score_text(const Json& value) {
  return value.is_number() ? decimal(value.get<double>(), 3) : kNothing;
}

std::string interval_text(const Json& interval) {
  if (!interval.is_array() || interval.size() != 2) return "";
  return "[" + score_text(interval[0]) + ", " + score_text(interval[1]) + "]";
}

std::string count_text(std::int64_t value) {
  std::string digits = std::to_string(value < 0 ? -value : value);
  for (std::size_t end = digits.size(); end > 3; end -= 3) digits.insert(end - 3, ",");
  return (value < 0 ? "-" : "") + digits;
}

std::string count_text(const Json& value) {
  return value.is_number() ? count_text(value.get<std::int64_t>()) : kNothing;
}

std::string bytes_text(const Json& value) {
  if (!value.is_number()) return kNothing;
  double size = value.get<double>();
  constexpr std::array<const char*, 4> kUnits{"B", "KiB", "MiB", "GiB"};
  std::size_t unit = 0;
  for (; size >= 1024 && unit + 1 < kUnits.size(); ++unit) size /= 1024;
  return decimal(size, unit == 0 ? 0 : size < 10 ? 2 : 1) + " " + kUnits.at(unit);
}

std::string seconds_text(const Json& value) {
  if (!value.is_number()) return kNothing;
  const double seconds = value.get<double>();
  if (seconds >= 0.1) return decimal(seconds, 3) + " s";
  return decimal(seconds * 1e3, seconds >= 0.01 ? 0 : 2) + " ms";
}

std::string number_text(const Json& value) {
  if (!value.is_number()) return kNothing;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value.get<double>());
  return text.data();
}

}  // namespace triphase::trainer
