// SPDX-License-Identifier: Apache-2.0
#include "launch/evaluation_summary.hpp"

#include "base/error.hpp"

#include <cstdio>

namespace triphase::launch {
namespace {

/// "0.8123 [0.7, 0.9]"
std::string figure_text(const Json& values, const std::string& name) {
  const Json& value = values.at(name);
  if (!value.is_number()) return "none";
  char number[32];
  std::snprintf(number, sizeof number, "%.4f", value.get<double>());
  const Json& interval = values.at(name + "_ci95");
  if (!interval.is_array()) return number;
  return str(number, " [", interval.at(0).get<double>(), ", ", interval.at(1).get<double>(), "]");
}

std::string line(const std::string& finding, const char* how, const Json& values) {
  char start[64];
  std::snprintf(start, sizeof start, "  %-16s %-8s ", finding.c_str(), how);
  std::string text = str(start, "AUC ", figure_text(values, "auc"), "  F1 ", figure_text(values, "f1"), "\n");
  if (values.contains("reason") && values.at("reason").is_string())
    text += str("    ", values.at("reason").get<std::string>(), "\n");
  return text;
}

}  // namespace

std::string evaluation_summary(const Json& evaluation) {
  std::string text = str("split ", evaluation.at("split").get<std::string>(), ", ", evaluation.at("n").get<long long>(),
                         " studies\n");
  for (const auto& [name, finding] : evaluation.at("findings").items()) {
    text += line(name, "prompts", finding);
    if (finding.contains("linear_probe") && finding.at("linear_probe").is_object())
      text += line(name, "probe", finding.at("linear_probe"));
  }
  return text;
}

}  // namespace triphase::launch
