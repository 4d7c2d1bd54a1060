// SPDX-License-Identifier: Apache-2.0
#include "data/import/xlsx.hpp"

#include <zip.h>

#include <charconv>
#include <cstring>
#include <memory>
#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace triphase::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxColumns = 16384;  // Excel's own
constexpr std::int64_t kMaxRows = 1048576;

/// A part of the archive, inflated.
class Workbook {
 public:
  Workbook(const fs::path& path, const XlsxLimits& limits)
      : path_(path.string()), limits_(limits), archive_(nullptr, zip_discard) {
    TRIPHASE_CHECK_CODE(DataError, kMissingInput, fs::is_regular_file(path), "workbook '", path_,
                        "' is not there, or is no file.");
    int code = 0;
    archive_.reset(zip_open(path_.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
    if (archive_ != nullptr) return;
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    refuse(str("is no workbook of Excel's (", reason, ")"));
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw DataError(str("workbook '", path_, "' ", what, ". Save it anew as .xlsx, or as CSV in UTF-8."));
  }

  [[nodiscard]] bool has(const std::string& part) const {
    return zip_name_locate(archive_.get(), part.c_str(), 0) >= 0;
  }

  [[nodiscard]] pugi::xml_document parse(const std::string& part) const {
    const std::string text = read(part);
    pugi::xml_document document;
    const pugi::xml_parse_result parsed = document.load_buffer(
        text.data(), text.size(), pugi::parse_default | pugi::parse_ws_pcdata_single);
    if (!parsed)
      refuse(str("has a damaged '", part, "' (", parsed.description(), " at byte ", parsed.offset, ")"));
    return document;
  }

 private:
  [[nodiscard]] std::string read(const std::string& part) const {
    zip_stat_t facts;
    if (zip_stat(archive_.get(), part.c_str(), 0, &facts) != 0)
      refuse(str("has no '", part, "'"));
    if ((facts.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && facts.encryption_method != ZIP_EM_NONE)
      refuse("is encrypted");
    if ((facts.valid & ZIP_STAT_SIZE) == 0 ||
        facts.size > static_cast<zip_uint64_t>(limits_.max_part_bytes))
      refuse(str("declares a '", part, "' of ", facts.size, " bytes, more than the ",
                 limits_.max_part_bytes, " that are read"));
    const std::unique_ptr<zip_file_t, decltype(&zip_fclose)> file(
        zip_fopen(archive_.get(), part.c_str(), 0), zip_fclose);
    if (file == nullptr) refuse(str("has a damaged '", part, "'"));
    // Bytes are asked for as they come: what is declared may be a lie.
    std::string text;
    std::vector<char> piece(std::size_t{1} << 20);
    for (;;) {
      const zip_int64_t got = zip_fread(file.get(), piece.data(), piece.size());
      if (got < 0) refuse(str("has a damaged '", part, "'"));
      if (got == 0) break;
      text.append(piece.data(), static_cast<std::size_t>(got));
      if (text.size() > facts.size) refuse(str("has a '", part, "' that is longer than it declares"));
    }
    if (text.size() != facts.size) refuse(str("has a '", part, "' that is cut short"));
    return text;
  }

  std::string path_;
  XlsxLimits limits_;
  std::unique_ptr<zip_t, decltype(&zip_discard)> archive_;
};

/// Excel writes a control character as _x000D_.
std::string without_escapes(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    unsigned code = 0;
    if (text.size() >= 7 && text.starts_with("_x") && text[6] == '_') {
      const auto [end, error] = std::from_chars(text.data() + 2, text.data() + 6, code, 16);
      if (error == std::errc() && end == text.data() + 6 && code > 0 && code < 0x80) {
        plain.push_back(static_cast<char>(code));
        text.remove_prefix(7);
        continue;
      }
    }
    plain.push_back(text.front());
    text.remove_prefix(1);
  }
  return plain;
}

/// The text of an <si> or <is>: its <t>, or those of its runs; phonetic guides are left out.
std::string text_of(const pugi::xml_node& item) {
  std::string text;
  for (const pugi::xml_node& child : item.children()) {
    if (std::strcmp(child.name(), "t") == 0) text += child.text().get();
    if (std::strcmp(child.name(), "r") == 0) text += child.child("t").text().get();
  }
  return without_escapes(text);
}

/// The part that holds the first sheet.
std::string first_sheet(const Workbook& book) {
  const pugi::xml_document workbook = book.parse("xl/workbook.xml");
  const pugi::xml_node sheet = workbook.child("workbook").child("sheets").child("sheet");
  if (!sheet) book.refuse("has no sheet");
  const std::string id = sheet.attribute("r:id").value();
  const pugi::xml_document relations = book.parse("xl/_rels/workbook.xml.rels");
  for (const pugi::xml_node& relation : relations.child("Relationships").children("Relationship")) {
    if (relation.attribute("Id").value() != id) continue;
    const std::string target = relation.attribute("Target").value();
    return target.starts_with("/") ? target.substr(1) : "xl/" + target;
  }
  book.refuse("does not say where its first sheet is");
}

/// "BC12" is column 54. @return nothing when it is no reference
std::optional<std::size_t> column_of(std::string_view reference) {
  std::size_t column = 0;
  std::size_t letters = 0;
  for (; letters < reference.size() && reference[letters] >= 'A' && reference[letters] <= 'Z'; ++letters) {
    column = 26 * column + static_cast<std::size_t>(reference[letters] - 'A' + 1);
    if (column > kMaxColumns) return std::nullopt;
  }
  if (letters == 0) return std::nullopt;
  return column - 1;
}

/// Collects cells within the limits.
class SheetReader {
 public:
  SheetReader(const Workbook& book, const XlsxLimits& limits) : book_(book), limits_(limits) {
    if (!book.has("xl/sharedStrings.xml")) return;
    const pugi::xml_document strings = book.parse("xl/sharedStrings.xml");
    for (const pugi::xml_node& item : strings.child("sst").children("si")) shared_.push_back(text_of(item));
  }

  std::vector<CsvRow> read(const std::string& part) {
    const pugi::xml_document sheet = book_.parse(part);
    std::int64_t line = 0;
    for (const pugi::xml_node& row : sheet.child("worksheet").child("sheetData").children("row")) {
      line = row.attribute("r") ? row.attribute("r").as_llong(-1) : line + 1;
      if (line < 1 || line > kMaxRows) book_.refuse("numbers a row otherwise than a sheet does");
      CsvRow read{.line = line, .fields = {}};
      std::size_t next = 0;
      for (const pugi::xml_node& cell : row.children("c")) next = read_cell(cell, next, read);
      if (!read.fields.empty()) rows_.push_back(std::move(read));
    }
    return std::move(rows_);
  }

 private:
  /// @param next the column of a cell that does not name its own @return the one after it
  std::size_t read_cell(const pugi::xml_node& cell, std::size_t next, CsvRow& row) {
    const std::string_view reference = cell.attribute("r").value();
    const std::optional<std::size_t> column = reference.empty() ? next : column_of(reference);
    if (!column || *column >= kMaxColumns)
      book_.refuse(str("has a cell called '", reference, "' in row ", row.line));
    std::string text = cell_text(cell, row.line);
    if (text.empty()) return *column + 1;
    num_text_bytes_ += static_cast<std::int64_t>(text.size());
    if (*column >= row.fields.size()) {
      num_cells_ += static_cast<std::int64_t>(*column + 1 - row.fields.size());
      if (num_cells_ > limits_.max_cells)
        book_.refuse(str("has more than ", limits_.max_cells, " cells"));
      row.fields.resize(*column + 1);
    }
    if (num_text_bytes_ > limits_.max_text_bytes)
      book_.refuse(str("has more than ", limits_.max_text_bytes, " bytes of text"));
    row.fields[*column] = std::move(text);
    return *column + 1;
  }

  std::string cell_text(const pugi::xml_node& cell, std::int64_t line) const {
    const std::string_view type = cell.attribute("t").value();
    if (type == "inlineStr") return text_of(cell.child("is"));
    const std::string_view value = cell.child("v").text().get();
    if (type == "str") return without_escapes(value);
    if (type != "s") return std::string(value);
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), index);
    if (error != std::errc() || end != value.data() + value.size() || index >= shared_.size())
      book_.refuse(str("names a text '", value, "' in row ", line, " that it does not have"));
    return shared_[index];
  }

  const Workbook& book_;
  const XlsxLimits& limits_;
  std::vector<std::string> shared_;
  std::vector<CsvRow> rows_;
  std::int64_t num_cells_ = 0;
  std::int64_t num_text_bytes_ = 0;
};

}  // namespace

std::vector<CsvRow> read_xlsx(const fs::path& path, const XlsxLimits& limits) {
  const Workbook book(path, limits);
  return SheetReader(book, limits).read(first_sheet(book));
}

}  // namespace triphase::data
