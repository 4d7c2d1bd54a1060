// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/data_table.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace triphase::trainer {
namespace {

constexpr std::array<std::pair<Shown, const char*>, 10> kShownNames{
    {{Shown::kText, "text"},
     {Shown::kWrapped, "wrapped"},
     {Shown::kCount, "count"},
     {Shown::kScore, "score"},
     {Shown::kNumber, "number"},
     {Shown::kPercent, "percent"},
     {Shown::kSeconds, "seconds"},
     {Shown::kBytes, "bytes"},
     {Shown::kLow, "low"},
     {Shown::kHigh, "high"}}};

std::string shown_name(Shown shown) {
  return std::find_if(kShownNames.begin(), kShownNames.end(),
                      [&](const auto& each) { return each.first == shown; })
      ->second;
}

Shown shown_from(const std::string& name) {
  const auto found = std::find_if(kShownNames.begin(), kShownNames.end(),
                                  [&](const auto& each) { return each.second == name; });
  TRIPHASE_CHECK(InternalError, found != kShownNames.end(), "no column is shown as '", name, "'");
  return found->first;
}

std::string cell_text(Shown shown, const Json& value) {
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_string()) return value.get<std::string>();
  switch (shown) {
    case Shown::kCount:
      return count_text(value);
    case Shown::kScore:
      return score_text(value);
    case Shown::kPercent:
      return value.is_number() ? decimal(value.get<double>(), 3) + " %" : number_text(value);
    case Shown::kSeconds:
      return seconds_text(value);
    case Shown::kBytes:
      return bytes_text(value);
    default:
      return number_text(value);
  }
}

std::string csv_field(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

void add_score_columns(std::vector<DataColumn>& columns, const std::string& key,
                       const std::string& name) {
  columns.push_back({key, name + " [95 %]", Shown::kScore});
  columns.push_back({key + "_low", "", Shown::kLow});
  columns.push_back({key + "_high", "", Shown::kHigh});
}

DataTable::DataTable(std::string name, std::string caption, std::vector<DataColumn> columns)
    : name_(std::move(name)), caption_(std::move(caption)), columns_(std::move(columns)) {}

void DataTable::add(std::vector<Json> row) {
  TRIPHASE_CHECK(InternalError, row.size() == columns_.size(), "a row of table '", name_, "' has ",
                 row.size(), " values in ", columns_.size(), " columns");
  rows_.push_back(std::move(row));
}

Json DataTable::json() const {
  Json columns = Json::array();
  for (const DataColumn& column : columns_)
    columns.push_back(
        {{"key", column.key}, {"name", column.name}, {"shown", shown_name(column.shown)}});
  return {{"name", name_}, {"caption", caption_}, {"columns", columns}, {"rows", rows_}};
}

const Json* find_table(const Json& figures, const std::string& name) {
  for (const Json& table : figures.at("tables"))
    if (table.at("name") == name) return &table;
  return nullptr;
}

ShownTable text_table(const Json& table) {
  ShownTable result;
  std::vector<Shown> kinds;
  for (const Json& column : table.at("columns")) {
    kinds.push_back(shown_from(column.at("shown")));
    if (kinds.back() == Shown::kLow || kinds.back() == Shown::kHigh) continue;
    result.names.push_back(column.at("name"));
    result.shown.push_back(kinds.back());
  }
  for (const Json& row : table.at("rows")) {
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      if (kinds[i] == Shown::kHigh) continue;
      if (kinds[i] != Shown::kLow)
        texts.push_back(cell_text(kinds[i], row[i]));
      else if (row[i].is_number() && row[i + 1].is_number())
        texts.back() += " " + interval_text(Json{row[i], row[i + 1]});
    }
    result.rows.push_back(std::move(texts));
  }
  return result;
}

std::string csv_text(const Json& table) {
  std::string csv;
  const Json& columns = table.at("columns");
  for (std::size_t i = 0; i < columns.size(); ++i)
    csv += (i == 0 ? "" : ",") + csv_field(columns[i].at("key"));
  csv += "\r\n";
  for (const Json& row : table.at("rows")) {
    for (std::size_t i = 0; i < row.size(); ++i) csv += (i == 0 ? "" : ",") + csv_field(row[i]);
    csv += "\r\n";
  }
  return csv;
}

}  // namespace triphase::trainer
