// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer/report/data_table.hpp"

#include <set>
#include <string>
#include <vector>

namespace triphase::trainer {

/// A section with a heading, to which the page's contents link; "" when there is no content.
[[nodiscard]] std::string html_section(const std::string& id, const std::string& heading,
                                       const std::string& content);

/// A heading below a section's; "" when there is no content.
[[nodiscard]] std::string html_part(const std::string& heading, const std::string& content);

/// A paragraph in the quieter colour of remarks.
[[nodiscard]] std::string html_remark(const std::string& text);

/// A table of texts as they are (they are escaped here); the first cell of a row is its heading.
/// Scrolls inside itself, also by keyboard, where the page is narrow or it is long. "" without rows.
[[nodiscard]] std::string html_table(const std::string& caption, const ShownTable& table);

/// The table of that name, and where its CSV file is; "" when there is none.
[[nodiscard]] std::string shown_table(const Json& figures, const std::string& name);
/// The same behind a line that opens it: what a figure was drawn from.
[[nodiscard]] std::string folded_tables(const Json& figures, const std::vector<std::string>& names);

/// A drawing under its title; "" for no drawing.
[[nodiscard]] std::string html_figure(const std::string& title, const std::string& svg);
/// Figures side by side where there is room, after a legend of these series; "" for no figures.
[[nodiscard]] std::string html_figures(const std::string& legend, const std::string& drawn);
/// Names, lines and dots of places in figures.series; "" when there is one series in all.
[[nodiscard]] std::string series_legend(const Json& figures, const std::set<std::size_t>& series);

}  // namespace triphase::trainer
