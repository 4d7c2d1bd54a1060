// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "data/batch_loader.hpp"
#include "data/tokenizer.hpp"

namespace triphase::trainer {

/// The texts of data.report_sections = "alternate": every second step shows one anatomical section of the reports in
/// place of the whole, section after section. A sample without that section shows its whole report. In such a
/// step samples of equal text are of one pair, as "Normal." says the same of many.
class SectionTexts {
 public:
  /// Reads the reports of all samples.
  /// @param groups_of_patients positive ids to keep in every step (loss.positives = "patient"); empty: none
  /// @throws DataError when none has a section. Purely local.
  SectionTexts(const data::Cache& cache, const data::Tokenizer& tokenizer,
               const std::vector<std::int64_t>& groups_of_patients);

  /// @param step from the beginning of the run, 0 first @return null: the whole reports
  [[nodiscard]] const data::TextSet* of_step(std::int64_t step) const;

 private:
  std::vector<data::TextSet> sections_;  ///< those that some sample has, in their order
};

}  // namespace triphase::trainer
