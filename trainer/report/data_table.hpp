// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.hpp"

#include <string>
#include <vector>

namespace triphase::trainer {

/// How people are shown a column's values; JSON and CSV hold the values themselves.
enum class Shown {
  kText,
  kWrapped,  ///< a text that may be long
  kCount,
  kScore,  ///< three decimals
  kNumber,
  kPercent,
  kSeconds,
  kBytes,
  kLow,  ///< "[low, high]" behind the column before these two
  kHigh
};

struct DataColumn {
  std::string key;   ///< in CSV
  std::string name;  ///< on the page
  Shown shown = Shown::kText;
};
/// A column of scores with its 95 % interval: `key`, `key`_low, `key`_high.
void add_score_columns(std::vector<DataColumn>& columns, const std::string& key,
                       const std::string& name);

/// Numbers of the page under a name: what a figure is drawn from, and what a table shows. As JSON
/// {name, caption, columns: [{key, name, shown}], rows: [[value, ...], ...]}; a value is a text, a
/// number, a bool or null.
class DataTable {
 public:
  DataTable(std::string name, std::string caption, std::vector<DataColumn> columns);
  /// @param row one value for each column. @throws InternalError for another number of them
  void add(std::vector<Json> row);
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  [[nodiscard]] Json json() const;

 private:
  std::string name_;
  std::string caption_;
  std::vector<DataColumn> columns_;
  Json rows_ = Json::array();
};

/// The table of that name in figures.tables; null when there is none.
[[nodiscard]] const Json* find_table(const Json& figures, const std::string& name);

/// A table as texts for people.
struct ShownTable {
  std::vector<std::string> names;
  std::vector<Shown> shown;
  std::vector<std::vector<std::string>> rows;
};
[[nodiscard]] ShownTable text_table(const Json& table);

/// RFC 4180 with a line of keys; numbers with all their digits, nothing for null.
[[nodiscard]] std::string csv_text(const Json& table);

}  // namespace triphase::trainer
