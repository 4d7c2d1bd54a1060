// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "trainer/report/format.hpp"
#include "trainer/study/cell_names.hpp"
#include "trainer/study/study_results.hpp"
#include "trainer/study/text_table.hpp"

namespace triphase::trainer {
namespace {

constexpr const char* kSeed = "run.seed";

std::vector<std::string> keys_of(const Json& cells) {
  std::vector<std::string> keys;
  for (const Json& cell : cells)
    for (const auto& [key, value] : cell.at("settings").items())
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  return keys;
}

std::string value_text(const Json& settings, const std::string& key) {
  if (!settings.contains(key)) return "-";
  const Json& value = settings.at(key);
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.is_number_float() ? number_text(value) : value.dump();
  std::string text;
  for (const Json& element : value)
    text += (text.empty() ? "" : "+") + (element.is_string() ? element.get<std::string>() : element.dump());
  return text.empty() ? "none" : text;
}

Json value_at(const Json& object, const std::string& key) {
  return object.is_object() && object.contains(key) ? object.at(key) : Json();
}

std::string score_with_interval(const Json& finding, const std::string& key) {
  const std::string interval = interval_text(value_at(finding, key + "_ci95"));
  return score_text(value_at(finding, key)) + (interval.empty() ? "" : " " + interval);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::vector<std::string> findings_of(const Json& cells) {
  std::vector<std::string> names;
  for (const Json& cell : cells) {
    const Json findings = value_at(cell, "findings");
    if (!findings.is_object()) continue;
    for (const auto& [name, finding] : findings.items())
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::string rows_of_cells(const Json& cells, const std::vector<std::string>& keys,
                          const std::string& finding_name) {
  std::vector<std::string> head = short_keys(keys);
  for (const char* column : {"AUC", "F1", "probe AUC", "trainable %", "best step", "temperature", "bytes/step"})
    head.emplace_back(column);
  TextTable table(head);
  for (const Json& cell : cells) {
    std::vector<std::string> row;
    for (const std::string& key : keys) row.push_back(value_text(cell.at("settings"), key));
    if (cell.at("status") != "done") {
      row.push_back(cell.at("status") == "failed" ? "failed, see below" : "not run");
      table.add(row);
      continue;
    }
    const Json finding = value_at(cell.at("findings"), finding_name);
    const Json training = value_at(cell, "training");
    row.push_back(score_with_interval(finding, "auc"));
    row.push_back(score_text(value_at(finding, "f1")));
    row.push_back(score_text(value_at(value_at(finding, "linear_probe"), "auc")));
    row.push_back(number_text(value_at(training, "trainable_percent")));
    row.push_back(number_text(value_at(training, "best_step")));
    row.push_back(number_text(value_at(training, "final_temperature")));
    const Json bytes = value_at(training, "bytes_per_step");
    row.push_back(bytes.is_number() ? count_text(bytes.get<std::int64_t>()) : "–");
    table.add(row);
  }
  return table.text();
}

/// "0.912 sd 0.010 [0.901, 0.920]" of the numbers; without sd and range where there is one.
std::string spread_text(const std::vector<double>& values) {
  if (values.empty()) return "–";
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  double squares = 0;
  for (const double value : values) squares += (value - sum / n) * (value - sum / n);
  if (values.size() == 1) return decimal(sum, 3);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return str(decimal(sum / n, 3), " sd ", decimal(std::sqrt(squares / (n - 1)), 3), " [",
             decimal(*low, 3), ", ", decimal(*high, 3), "]");
}

std::string rows_over_seeds(const Json& cells, std::vector<std::string> keys,
                            const std::string& finding_name) {
  std::erase(keys, kSeed);
  struct Row {
    std::vector<std::string> values;
    std::vector<double> auc, f1, probe;
    std::int64_t num_done = 0;
  };
  std::vector<Row> rows;
  for (const Json& cell : cells) {
    std::vector<std::string> values;
    for (const std::string& key : keys) values.push_back(value_text(cell.at("settings"), key));
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.values == values; });
    if (row == rows.end()) row = rows.insert(rows.end(), Row{.values = values, .auc = {}, .f1 = {}, .probe = {}});
    if (cell.at("status") != "done") continue;
    ++row->num_done;
    const Json finding = value_at(cell.at("findings"), finding_name);
    const auto add = [](const Json& number, std::vector<double>& to) {
      if (number.is_number()) to.push_back(number.get<double>());
    };
    add(value_at(finding, "auc"), row->auc);
    add(value_at(finding, "f1"), row->f1);
    add(value_at(value_at(finding, "linear_probe"), "auc"), row->probe);
  }
  std::vector<std::string> head = short_keys(keys);
  for (const char* column : {"seeds", "AUC", "F1", "probe AUC"}) head.emplace_back(column);
  TextTable table(head);
  for (Row& row : rows) {
    row.values.push_back(str(row.num_done));
    for (const auto* numbers : {&row.auc, &row.f1, &row.probe}) row.values.push_back(spread_text(*numbers));
    table.add(row.values);
  }
  return table.text();
}

/// Every site that a cell was tested at; empty where none was tested at several.
std::vector<std::string> tested_sites(const Json& cells) {
  std::set<std::string> sites;
  bool has_several = false;
  for (const Json& cell : cells) {
    const Json by_site = value_at(cell, "by_site");
    has_several = has_several || by_site.size() > 1;
    for (const Json& row : by_site) sites.insert(row.at("site").get<std::string>());
  }
  return has_several ? std::vector<std::string>(sites.begin(), sites.end()) : std::vector<std::string>{};
}

std::string site_matrix(const Json& cells, const std::vector<std::string>& keys, const std::vector<std::string>& sites,
                        const std::string& finding_name) {
  std::vector<std::string> head = short_keys(keys);
  head.insert(head.end(), sites.begin(), sites.end());
  TextTable table(head);
  for (const Json& cell : cells) {
    if (cell.at("status") != "done") continue;
    std::vector<std::string> row;
    for (const std::string& key : keys) row.push_back(value_text(cell.at("settings"), key));
    for (const std::string& site : sites) {
      row.emplace_back("–");
      for (const Json& tested : value_at(cell, "by_site"))
        if (tested.at("site") == site)
          row.back() = score_with_interval(value_at(tested.at("findings"), finding_name), "auc");
    }
    table.add(row);
  }
  return table.text();
}

bool has_seeds(const Json& cells) {
  std::set<std::string> seeds;
  for (const Json& cell : cells)
    if (cell.at("settings").contains(kSeed)) seeds.insert(cell.at("settings").at(kSeed).dump());
  return seeds.size() > 1;
}

}  // namespace

std::string study_table(const Json& study) {
  const Json& cells = study.at("cells");
  const std::vector<std::string> keys = keys_of(cells);
  std::vector<std::string> findings = findings_of(cells);
  if (findings.empty()) findings.emplace_back("no finding was scored");
  std::string text;
  for (const std::string& finding : findings) {
    text += (text.empty() ? "" : "\n") + finding + "\n" + rows_of_cells(cells, keys, finding);
    if (has_seeds(cells))
      text += "\n" + finding + " over seeds: mean, standard deviation, range\n" + rows_over_seeds(cells, keys, finding);
  }
  const std::vector<std::string> sites = tested_sites(cells);
  for (const std::string& finding : sites.empty() ? std::vector<std::string>{} : findings)
    text += "\n" + finding + " AUC where tested (columns), by what was trained on (rows)\n" +
            site_matrix(cells, keys, sites, finding);
  for (const Json& cell : cells)
    if (cell.at("status") == "failed")
      text += str("\nfailed: ", cell.at("name").get<std::string>(), " (exit code ",
                  cell.at("error").at("exit_code").get<int>(), "): ",
                  first_line(cell.at("error").at("message").get<std::string>()), "\n");
  return text;
}

}  // namespace triphase::trainer
