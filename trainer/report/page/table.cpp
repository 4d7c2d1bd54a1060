// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/page/table.hpp"

#include "base/error.hpp"
#include "trainer/report/format.hpp"

namespace triphase::trainer {
namespace {

const char* css_class(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::kNumber:
      return " class=\"number\"";
    case ColumnKind::kWrapped:
      return " class=\"wrap\"";
    case ColumnKind::kText:
      break;
  }
  return "";
}

}  // namespace

std::string html_table(const std::vector<TableColumn>& columns,
                       const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "";
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (const TableColumn& column : columns)
    html +=
        str("<th scope=\"col\"", css_class(column.kind), ">", escape_html(column.name), "</th>");
  html += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    TRIPHASE_CHECK(InternalError, row.size() == columns.size(), "a table row has ", row.size(),
                   " cells in ", columns.size(), " columns");
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string cell = escape_html(row[i]);
      html += i == 0 ? str("<th scope=\"row\">", cell, "</th>")
                     : str("<td", css_class(columns[i].kind), ">", cell, "</td>");
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string html_section(const std::string& heading, const std::string& content) {
  if (content.empty()) return "";
  return str("<section><h2>", escape_html(heading), "</h2>\n", content, "</section>\n");
}

std::string html_remark(const std::string& text) {
  return str("<p class=\"soft\">", escape_html(text), "</p>\n");
}

}  // namespace triphase::trainer
