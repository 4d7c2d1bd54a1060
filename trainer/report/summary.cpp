// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/summary.hpp"

#include "trainer/report/fields.hpp"
#include "trainer/report/format.hpp"
#include "trainer/report/headline.hpp"

#include <algorithm>
#include <vector>

namespace triphase::trainer {
namespace {

using Line = std::vector<std::string>;

/// Characters, not bytes: what a terminal lays out.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

/// What would move a terminal's cursor or colour, from a name in a file, becomes '?'.
std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

Line line_of(const Json& figures, const Json& run) {
  const Json* evaluation = main_evaluation(run);
  const Json finding = figures.at("finding");
  const Json scores =
      evaluation != nullptr && finding.is_string()
          ? member(evaluation->at("findings"), finding.get<std::string>().c_str())
          : Json();
  const Json percent = member(run.at("trainable"), "percent");
  const std::string interval = interval_text(member(scores, "auc_ci95"));
  return {printable(run.at("name")),
          method_text(run),
          score_text(member(scores, "auc")),
          interval.empty() ? "–" : interval,
          score_text(member(scores, "f1")),
          score_text(member(scores, "average_precision")),
          score_text(member(member(scores, "linear_probe"), "auc")),
          count_text(member(member(run.at("training"), "best"), "step")),
          percent.is_number() ? decimal(percent.get<double>(), 3) : "–"};
}

}  // namespace

std::string report_summary(const Json& figures) {
  std::vector<Line> lines{{"run", "method", "AUC", "95 %", "F1", "AP", "probe AUC", "best step",
                           "trainable %"}};
  for (const Json& run : figures.at("runs")) lines.push_back(line_of(figures, run));
  std::vector<std::size_t> widths(lines.front().size(), 0);
  for (const Line& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width(line[i]));
  std::string text = printable(figures.at("headline")) + "\n\n";
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string room(widths[i] - width(line[i]), ' ');
      const bool is_text = i < 2;  // numbers stand at the right
      text += (i == 0 ? "" : "  ") + (is_text ? line[i] + room : room + line[i]);
    }
    text += "\n";
  }
  if (!figures.at("missing").empty())
    text += "\nSome files lack fields that this version shows; the page says which.\n";
  return text;
}

}  // namespace triphase::trainer
