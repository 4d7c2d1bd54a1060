// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace triphase::trainer {

enum class ColumnKind { kText, kNumber, kWrapped };

struct TableColumn {
  std::string name;
  ColumnKind kind = ColumnKind::kText;
};

/// A table of texts as they are (they are escaped here); the first cell of a row is its heading.
/// Scrolls sideways inside itself where the page is narrow. "" without rows.
[[nodiscard]] std::string html_table(const std::vector<TableColumn>& columns,
                                     const std::vector<std::vector<std::string>>& rows);

/// A section with a heading; "" when there is no content.
[[nodiscard]] std::string html_section(const std::string& heading, const std::string& content);

/// A paragraph in the quieter colour of remarks.
[[nodiscard]] std::string html_remark(const std::string& text);

}  // namespace triphase::trainer
