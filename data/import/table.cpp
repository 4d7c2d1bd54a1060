// SPDX-License-Identifier: Apache-2.0
#include "data/import/table.hpp"

#include <charconv>
#include <cmath>

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/import/xlsx.hpp"
#include "data/utf8.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kMaxCsvBytes = std::int64_t{4} << 30;

std::vector<CsvRow> read_rows(const fs::path& path) {
  if (plain_name(path.extension().string()) == ".xlsx") return read_xlsx(path);
  return parse_csv(read_file(path, kMaxCsvBytes), path.string());
}

}  // namespace

std::string plain_name(std::string_view name) {
  std::string plain;
  for (const char c : name)
    if (c != ' ' && c != '_' && c != '-')
      plain.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  return plain;
}

Table::Table(const fs::path& path) : path_(path), rows_(read_rows(path)) {
  TRIPHASE_CHECK(DataError, !rows_.empty(), "'", path.string(),
                 "' is empty. Its first row names the columns.");
  for (const CsvRow& row : rows_)
    for (const std::string& field : row.fields)
      TRIPHASE_CHECK(DataError, is_utf8(field) && field.find('\0') == std::string::npos, place(row),
                     "a field is not UTF-8 text, or holds a zero byte. Save the file in UTF-8.");
  header_ = std::move(rows_.front());
  rows_.erase(rows_.begin());
  for (const CsvRow& row : rows_)
    TRIPHASE_CHECK(DataError, row.fields.size() <= header_.fields.size(), place(row), "there are ",
                   row.fields.size(), " fields, the header has ", header_.fields.size(),
                   ". Quote a field that holds commas or line breaks.");
}

std::optional<std::size_t> Table::find(std::initializer_list<std::string_view> names) const {
  for (const std::string_view name : names)
    for (std::size_t i = 0; i < header_.fields.size(); ++i)
      if (plain_name(header_.fields[i]) == plain_name(name)) return i;
  return std::nullopt;
}

std::size_t Table::need(std::initializer_list<std::string_view> names) const {
  const std::optional<std::size_t> column = find(names);
  if (column) return *column;
  std::string there;
  for (const std::string& name : header_.fields) there += (there.empty() ? "'" : ", '") + name + "'";
  throw DataError(str("'", path_.string(), "' has no column '", *names.begin(), "'. It has ", there,
                      ". Is it the right file?"));
}

std::string Table::cell(const CsvRow& row, std::size_t column) const {
  if (column >= row.fields.size()) return "";
  const std::string& text = row.fields[column];
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::int8_t Table::label(const CsvRow& row, std::size_t column) const {
  const std::string text = cell(row, column);
  if (text == "1" || text == "1.0") return 1;
  if (text == "0" || text == "0.0") return 0;
  if (text.empty() || text == "-1" || text == "-1.0") return -1;
  throw DataError(str(place(row), "'", header_.fields[column], "' is '", text,
                      "'; expected 1, 0, -1 (unknown) or nothing (unknown)."));
}

double Table::number(const std::string& text, const CsvRow& row, std::size_t column) const {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  TRIPHASE_CHECK(DataError,
                 error == std::errc() && end == text.data() + text.size() && std::isfinite(value),
                 place(row), "'", header_.fields[column], "' is '", text, "'; expected a number.");
  return value;
}

std::string Table::place(const CsvRow& row) const {
  return str("'", path_.string(), "' line ", row.line, ": ");
}

}  // namespace triphase::data
