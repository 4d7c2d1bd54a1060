// SPDX-License-Identifier: Apache-2.0
#include "base/toml_writer.hpp"

#include <array>
#include <charconv>
#include <map>

namespace triphase {
namespace {

template <class T>
std::string array_text(const std::vector<T>& values) {
  std::string text = "[";
  for (std::size_t i = 0; i < values.size(); ++i)
    text += (i == 0 ? "" : ", ") + toml_text(values[i]);
  return text + "]";
}

struct Table;

/// The tables of one name: a plain table has the index -1 alone, an array of tables has 0, 1, …
struct TableGroup {
  std::string name;
  std::map<std::int64_t, Table> tables;
};

struct Table {
  std::vector<const TomlLine*> lines;
  std::vector<TableGroup> groups;
};

/// One part of a path: "rank" or "finding[2]".
struct Part {
  std::string name;
  std::int64_t index = -1;
};

Part parse_part(std::string_view text) {
  const std::size_t bracket = text.find('[');
  if (bracket == std::string_view::npos) return {std::string(text), -1};
  Part part{std::string(text.substr(0, bracket)), 0};
  std::from_chars(text.data() + bracket + 1, text.data() + text.size(), part.index);
  return part;
}

Table& sub_table(Table& table, const Part& part) {
  for (TableGroup& group : table.groups)
    if (group.name == part.name) return group.tables[part.index];
  table.groups.push_back({part.name, {}});
  return table.groups.back().tables[part.index];
}

void insert(Table& root, const TomlLine& line) {
  Table* table = &root;
  std::string_view rest = line.path;
  for (std::size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
    table = &sub_table(*table, parse_part(rest.substr(0, dot)));
    rest.remove_prefix(dot + 1);
  }
  if (line.value.empty())
    sub_table(*table, parse_part(rest));
  else
    table->lines.push_back(&line);
}

std::string comment_text(const std::string& comment) {
  if (comment.empty()) return {};
  std::string text = "  # ";
  // A path may hold bytes that TOML forbids in a comment.
  for (const char c : comment) text += c >= ' ' && c < 0x7f ? c : '?';
  return text;
}

void write(std::string& text, const Table& table, const std::string& path) {
  for (const TomlLine* line : table.lines) {
    const std::size_t dot = line->path.rfind('.');
    const std::string key = dot == std::string::npos ? line->path : line->path.substr(dot + 1);
    text += key + " = " + line->value + comment_text(line->comment) + "\n";
  }
  for (const TableGroup& group : table.groups) {
    const std::string name = path.empty() ? group.name : path + "." + group.name;
    for (const auto& [index, child] : group.tables) {
      if (!text.empty() && (index >= 0 || !child.lines.empty())) text += "\n";
      if (index >= 0)
        text += "[[" + name + "]]\n";
      else if (!child.lines.empty())
        text += "[" + name + "]\n";
      write(text, child, name);
    }
  }
}

}  // namespace

std::string toml_text(bool value) { return value ? "true" : "false"; }

std::string toml_text(std::int64_t value) { return std::to_string(value); }

std::string toml_text(double value) {
  std::array<char, 40> buffer{};
  // The shortest digits that give back the same bits.
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";  // 'n' is in inf and nan
  return text;
}

std::string toml_text(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\t') {
      text += "\\t";
    } else if (code < 0x20 || code == 0x7f) {
      text += "\\u00";
      text += "0123456789abcdef"[code >> 4];
      text += "0123456789abcdef"[code & 0xf];
    } else {
      text += c;
    }
  }
  return text + "\"";
}

std::string toml_text(const std::vector<std::string>& values) { return array_text(values); }
std::string toml_text(const std::vector<double>& values) { return array_text(values); }
std::string toml_text(const std::vector<std::int64_t>& values) { return array_text(values); }

std::string write_toml(const std::vector<TomlLine>& lines) {
  Table root;
  for (const TomlLine& line : lines) insert(root, line);
  std::string text;
  write(text, root, "");
  return text;
}

}  // namespace triphase
