// SPDX-License-Identifier: Apache-2.0
// Input: a workbook. What is read must be within the limits, and a row end with a cell that holds something.
#include "data/import/xlsx.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  constexpr data::XlsxLimits kLimits{
      .max_part_bytes = 1 << 20, .max_text_bytes = 1 << 20, .max_cells = 100'000};
  const auto path = fuzz::scratch_file("book.xlsx", fuzz::text_of(data, size));
  fuzz::expect_clean_end([&] {
    std::int64_t num_bytes = 0;
    std::int64_t num_cells = 0;
    for (const data::CsvRow& row : data::read_xlsx(path, kLimits)) {
      fuzz::require(row.line >= 1 && !row.fields.empty() && !row.fields.back().empty(),
                    "a row has a number and ends with a cell that holds something");
      num_cells += std::ssize(row.fields);
      for (const std::string& field : row.fields) num_bytes += std::ssize(field);
    }
    fuzz::require(num_bytes <= kLimits.max_text_bytes && num_cells <= kLimits.max_cells, "limits hold");
  });
  return 0;
}
