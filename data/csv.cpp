// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "base/error.hpp"
#include "data/manifest.hpp"

namespace triphase::data {
namespace {

constexpr std::size_t kMaxFieldBytes = std::size_t{16} << 20;

/// One pass over the text; every character is looked at once.
class CsvParser {
 public:
  CsvParser(const std::string& text, const std::string& name) : text_(text), name_(name) {}

  std::vector<CsvRow> parse() {
    TRIPHASE_CHECK(DataError, !text_.starts_with("\xFF\xFE") && !text_.starts_with("\xFE\xFF"), "'",
                   name_, "' is in UTF-16. Save it as CSV in UTF-8.");
    if (text_.starts_with("\xEF\xBB\xBF")) position_ = 3;  // a byte order mark, as Excel writes it
    while (position_ < text_.size()) {
      CsvRow row = parse_row();
      const bool blank = row.fields.size() == 1 && row.fields[0].empty();
      if (!blank) rows_.push_back(std::move(row));
    }
    return std::move(rows_);
  }

 private:
  CsvRow parse_row() {
    CsvRow row;
    row.line = line_;
    for (;;) {
      row.fields.push_back(peek() == '"' ? quoted_field() : plain_field());
      TRIPHASE_CHECK(DataError, row.fields.back().size() <= kMaxFieldBytes, "'", name_, "' line ",
                     row.line, ": a field has ", row.fields.back().size(),
                     " bytes, more than any report. Look for a quote that is not closed.");
      if (peek() != ',') break;
      ++position_;
    }
    end_line();
    return row;
  }

  std::string plain_field() {
    const std::size_t start = position_;
    while (position_ < text_.size() && !is_delimiter(text_[position_])) ++position_;
    return text_.substr(start, position_ - start);
  }

  std::string quoted_field() {
    const std::int64_t opened = line_;
    std::string field;
    for (++position_; position_ < text_.size(); ++position_) {
      const char c = text_[position_];
      if (c == '"' && peek(1) != '"') break;
      if (c == '"') ++position_;
      if (c == '\n' || (c == '\r' && peek(1) != '\n')) ++line_;
      field.push_back(c);
    }
    TRIPHASE_CHECK(DataError, position_ < text_.size(), "'", name_, "' line ", opened,
                   ": a quoted field is not closed. Add the missing quote; a quote inside a field "
                   "is written twice.");
    ++position_;
    TRIPHASE_CHECK(DataError, position_ == text_.size() || is_delimiter(text_[position_]), "'",
                   name_, "' line ", line_,
                   ": text follows a closing quote. A quote inside a field is "
                   "written twice.");
    return field;
  }

  void end_line() {
    if (peek() == '\r') ++position_;
    if (peek() == '\n') ++position_;
    ++line_;
  }

  [[nodiscard]] static bool is_delimiter(char c) { return c == ',' || c == '\n' || c == '\r'; }
  /// The character `ahead` of the position, or 0 after the end.
  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return position_ + ahead < text_.size() ? text_[position_ + ahead] : '\0';
  }

  const std::string& text_;
  const std::string& name_;
  std::size_t position_ = 0;
  std::int64_t line_ = 1;
  std::vector<CsvRow> rows_;
};

}  // namespace

std::vector<CsvRow> parse_csv(const std::string& text, const std::string& name) {
  return CsvParser(text, name).parse();
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted.push_back('"');
    quoted.push_back(c);
  }
  return quoted + '"';
}

}  // namespace triphase::data
