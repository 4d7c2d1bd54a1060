// SPDX-License-Identifier: Apache-2.0
// Input: a CSV text. Its fields, quoted anew, must be read as the same fields; then it is read as a manifest and as
// a table of a public layout.
#include "data/import/table.hpp"
#include "data/manifest.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  const std::string text(fuzz::text_of(data, size));
  const auto path = fuzz::scratch_file("m.csv", text);
  fuzz::expect_clean_end([&] { static_cast<void>(data::Table(path)); });
  fuzz::expect_clean_end([&] {
    const std::vector<data::CsvRow> rows = data::parse_csv(text, "m.csv");
    std::string again;
    for (const data::CsvRow& row : rows) {
      for (std::size_t i = 0; i < row.fields.size(); ++i)
        again += (i > 0 ? "," : "") + data::csv_field(row.fields[i]);
      again += '\n';
    }
    const std::vector<data::CsvRow> rows_again = data::parse_csv(again, "again.csv");
    fuzz::require(rows_again.size() == rows.size(), "rows quoted anew are as many");
    for (std::size_t i = 0; i < rows.size(); ++i)
      fuzz::require(rows_again[i].fields == rows[i].fields, "fields quoted anew are the same");
    static_cast<void>(data::read_manifest(path));
  });
  return 0;
}
