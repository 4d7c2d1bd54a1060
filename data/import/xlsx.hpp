// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "data/manifest.hpp"

namespace triphase::data {

/// What a workbook may ask for; checked before memory is taken.
struct XlsxLimits {
  std::int64_t max_part_bytes = std::int64_t{256} << 20;  ///< of one part, inflated
  std::int64_t max_text_bytes = std::int64_t{512} << 20;  ///< of all cells together
  std::int64_t max_cells = 16'000'000;
};

/// The first sheet of an Excel workbook, row by row, empty rows left out; cells as text (numbers as they
/// are written, formulas by their last value). A row ends with its last cell that is there.
/// @return `line` is the sheet's row number
/// @throws DataError (66) when there is no file; (65) when it is no workbook, is damaged or encrypted, or
///         asks for more than the limits. Purely local.
/// Source: ECMA-376 part 1, SpreadsheetML (18.2.19, 18.3.1.4, 18.4.8) and part 2 (relationships).
[[nodiscard]] std::vector<CsvRow> read_xlsx(const std::filesystem::path& path,
                                            const XlsxLimits& limits = {});

}  // namespace triphase::data
