// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_plan.hpp"

#include "base/error.hpp"
#include "models/module_paths.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace triphase::models {
namespace {

/// 1234567 as 1,234,567.
std::string grouped(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

/// The path with what is counted replaced: layer3.5.conv2 and layer1.0.conv2 both become
/// layer*.*.conv2.
std::string pattern_of(const std::string& path) {
  std::string out;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    std::string part = path.substr(begin, end - begin);
    const std::size_t digits = part.find_last_not_of("0123456789") + 1;
    const bool counted = digits == 0 || part.substr(0, digits) == "layer";
    if (counted && digits < part.size()) part = part.substr(0, digits) + "*";
    out += (begin == 0 ? "" : ".") + part;
    begin = end + 1;
  }
  return out;
}

/// Rows that a reader takes as one.
struct Line {
  std::string part;
  std::string what;
  std::int64_t rank = 0;
  double alpha = 0;
  std::int64_t count = 0;
  std::int64_t num_trainable = 0;
  std::int64_t num_parameters = 0;
};

Line line_of(const AdapterPlanRow& row, bool full) {
  Line line{row.part,    pattern_of(row.module), row.rank,          row.alpha,
            /*count=*/1, row.num_trainable,      row.num_parameters};
  if (row.part == "frozen" || full) {
    const bool image = row.module.starts_with("encode_image.");
    line.what = image ? "encode_image.*" : "encode_text.*";
  }
  if (row.part == "frozen" && is_never_reached(row.module)) {
    line.part = "unused";
    line.what = "*_global, pooler, classifier";
  }
  if (row.module.empty()) line.what = row.num_parameters > 1 ? "logit_scale, logit_bias" : "logit_scale";
  return line;
}

std::vector<Line> joined_rows(const AdapterPlan& plan) {
  std::vector<Line> lines;
  for (const char* part : {"adapted", "trained", "frozen", "unused"})
    for (const AdapterPlanRow& row : plan.rows) {
      const Line line = line_of(row, plan.options.method == "full");
      if (line.part != part) continue;
      const auto same = std::find_if(lines.begin(), lines.end(), [&](const Line& other) {
        return other.part == line.part && other.what == line.what && other.rank == line.rank &&
               other.alpha == line.alpha;
      });
      if (same == lines.end()) {
        lines.push_back(line);
        continue;
      }
      same->count += 1;
      same->num_trainable += line.num_trainable;
      same->num_parameters += line.num_parameters;
    }
  return lines;
}

/// "adapters 2,975,744 of 270,935,389 (1.098 %)"
std::string share(const char* what, std::int64_t count, std::int64_t all) {
  char percent[32];
  std::snprintf(percent, sizeof percent, "%.3f",
                100.0 * static_cast<double>(count) / static_cast<double>(all));
  return str(what, " ", grouped(count), " of ", grouped(all), " (", percent, " %)\n");
}

/// What trains, by kind.
std::string summary(const AdapterPlan& plan) {
  std::int64_t adapters = 0;
  std::int64_t weights = 0;
  bool has_bias = false;
  for (const AdapterPlanRow& row : plan.rows) {
    if (row.module.empty())
      has_bias = row.num_parameters > 1;
    else
      (row.part == "adapted" ? adapters : weights) += row.num_trainable;
  }
  std::string text;
  if (adapters > 0) text += share("adapters", adapters, plan.num_base_parameters);
  if (weights > 0) text += share("weights", weights, plan.num_base_parameters);
  text += plan.options.train_log_scale ? "log-scale 1, trained\n" : "log-scale fixed\n";
  if (has_bias) text += "logit bias 1, trained\n";
  return text + "unused: never reached by the contrastive loss\n";
}

std::string padded(const std::string& text, std::size_t width, bool right) {
  const std::string space(width > text.size() ? width - text.size() : 0, ' ');
  return right ? space + text : text + space;
}

}  // namespace

std::string AdapterPlan::table() const {
  using Cells = std::vector<std::string>;
  std::vector<Cells> lines{
      {"part", "modules", "count", "rank", "alpha", "trainable", "parameters"}};
  for (const Line& line : joined_rows(*this))
    lines.push_back({line.part, line.what, grouped(line.count),
                     line.rank > 0 ? std::to_string(line.rank) : "-",
                     line.rank > 0 ? str(line.alpha) : "-", grouped(line.num_trainable),
                     grouped(line.num_parameters)});
  std::vector<std::size_t> widths(lines[0].size(), 0);
  for (const Cells& row : lines)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const Cells& row : lines) {
    std::string text;
    for (std::size_t i = 0; i < row.size(); ++i)
      text += (i == 0 ? "" : "  ") + padded(row[i], widths[i], /*right=*/i >= 2);
    out += text + "\n";
  }
  return out + summary(*this);
}

}  // namespace triphase::models
