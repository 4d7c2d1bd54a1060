// SPDX-License-Identifier: Apache-2.0
#include "trainer/report/page/html.hpp"

#include "base/error.hpp"
#include "trainer/report/draw/charts.hpp"
#include "trainer/report/fields.hpp"
#include "trainer/report/format.hpp"

#include <cctype>

namespace triphase::trainer {
namespace {

const char* css_class(Shown shown) {
  switch (shown) {
    case Shown::kText:
      return "";
    case Shown::kWrapped:
      return " class=\"wrap\"";
    default:
      return " class=\"number\"";
  }
}

/// Everything but letters, digits and "-_./" as %XX, which no browser takes for another address.
std::string relative_address(const std::string& path) {
  constexpr const char* kHex = "0123456789ABCDEF";
  std::string address;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '/')
      address += c;
    else
      address += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return address;
}

/// "" where the page has no files beside it.
std::string csv_link(const Json& figures, const std::string& name) {
  const Json folder = member(figures, "folder");
  if (!folder.is_string()) return "";
  const std::string path = folder.get<std::string>() + "/" + name + ".csv";
  return str("<p class=\"soft\">The same, with all digits: <a href=\"./", relative_address(path),
             "\">", escape_html(path), "</a></p>\n");
}

}  // namespace

std::string html_section(const std::string& id, const std::string& heading,
                         const std::string& content) {
  if (content.empty()) return "";
  return str("<section id=\"", id, "\" aria-labelledby=\"", id, "-title\"><h2 id=\"", id,
             "-title\">", escape_html(heading), "</h2>\n", content, "</section>\n");
}

std::string html_part(const std::string& heading, const std::string& content) {
  return content.empty() ? "" : "<h3>" + escape_html(heading) + "</h3>\n" + content;
}

std::string html_remark(const std::string& text) {
  return str("<p class=\"soft\">", escape_html(text), "</p>\n");
}

std::string html_table(const std::string& caption, const ShownTable& table) {
  if (table.rows.empty()) return "";
  std::string html = str("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"",
                         escape_html(caption), "\"><table><caption>", escape_html(caption),
                         "</caption><thead><tr>");
  for (std::size_t i = 0; i < table.names.size(); ++i)
    html += str("<th scope=\"col\"", css_class(table.shown[i]), ">", escape_html(table.names[i]),
                "</th>");
  html += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    TRIPHASE_CHECK(InternalError, row.size() == table.names.size(), "a table row has ", row.size(),
                   " cells in ", table.names.size(), " columns");
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string cell = escape_html(row[i]);
      html += i == 0 ? str("<th scope=\"row\">", cell, "</th>")
                     : str("<td", css_class(table.shown[i]), ">", cell, "</td>");
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string shown_table(const Json& figures, const std::string& name) {
  const Json* table = find_table(figures, name);
  if (table == nullptr) return "";
  return html_table(table->at("caption"), text_table(*table)) + csv_link(figures, name);
}

std::string folded_tables(const Json& figures, const std::vector<std::string>& names) {
  std::string html;
  for (const std::string& name : names) {
    const std::string table = shown_table(figures, name);
    if (table.empty()) continue;
    html += str("<details><summary>Numbers: ",
                escape_html(find_table(figures, name)->at("caption").get<std::string>()),
                "</summary>\n", table, "</details>\n");
  }
  return html;
}

std::string html_figure(const std::string& title, const std::string& svg) {
  if (svg.empty()) return "";
  return str("<figure><figcaption>", escape_html(title), "</figcaption>", svg, "</figure>\n");
}

std::string html_figures(const std::string& legend, const std::string& drawn) {
  return drawn.empty() ? "" : legend + "<div class=\"charts\">\n" + drawn + "</div>\n";
}

std::string series_legend(const Json& figures, const std::set<std::size_t>& series) {
  const Json& all = figures.at("series");
  if (all.size() < 2) return "";
  std::string html = "<ul class=\"legend\">";
  for (const std::size_t i : series) {
    const std::size_t runs = all[i].at("runs").size();
    html += str("<li>", legend_sample(i), escape_html(all[i].at("name").get<std::string>()),
                all.size() < figures.at("groups").size() ? str(" · ", runs, runs == 1 ? " run" : " runs")
                                                         : "",
                "</li>");
  }
  return html + "</ul>\n";
}

}  // namespace triphase::trainer
