// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/manifest.hpp"

namespace triphase::data {

/// A table of a public layout, CSV or xlsx, whose first row names the columns. Names are compared without
/// case, spaces, '_' and '-': "study id" is "Study_ID".
class Table {
 public:
  /// By the file's ending: .csv or .xlsx. Texts are checked: UTF-8, no zero byte, as HDF5 and tokenizers
  /// need them.
  /// @throws DataError (66) when it is not there; (65) naming file and line
  explicit Table(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const std::vector<std::string>& columns() const { return header_.fields; }
  [[nodiscard]] const std::vector<CsvRow>& rows() const { return rows_; }
  /// The column of the first of these names that there is.
  [[nodiscard]] std::optional<std::size_t> find(std::initializer_list<std::string_view> names) const;
  /// @throws DataError that lists the columns there are
  [[nodiscard]] std::size_t need(std::initializer_list<std::string_view> names) const;
  /// Without spaces at its ends; empty where the row is shorter.
  [[nodiscard]] std::string cell(const CsvRow& row, std::size_t column) const;
  /// 1, 0 or -1 (unknown, also for an empty cell). @throws DataError for anything else
  [[nodiscard]] std::int8_t label(const CsvRow& row, std::size_t column) const;
  /// @throws DataError unless it is a finite number
  [[nodiscard]] double number(const std::string& text, const CsvRow& row, std::size_t column) const;
  [[nodiscard]] std::string place(const CsvRow& row) const;  ///< "'labels.csv' line 12: "

 private:
  std::filesystem::path path_;
  CsvRow header_;
  std::vector<CsvRow> rows_;
};

/// Lower case, without spaces, '_' and '-'.
[[nodiscard]] std::string plain_name(std::string_view name);

}  // namespace triphase::data
