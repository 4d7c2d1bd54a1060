// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/section_texts.hpp"

#include <algorithm>
#include <map>

#include "base/error.hpp"
#include "data/report_sections.hpp"
#include "data/report_text.hpp"

namespace triphase::trainer {
namespace {

/// One number for each text that is shown.
std::vector<std::int64_t> numbers_of_texts(const data::Cache& cache,
                                           const std::vector<std::vector<std::int64_t>>& tokens) {
  std::map<std::vector<std::int64_t>, std::int64_t> numbers;
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::vector<std::int64_t>& shown = tokens[i].empty() ? cache.entries()[i].tokens : tokens[i];
    ids.push_back(numbers.try_emplace(shown, std::ssize(numbers)).first->second);
  }
  return ids;
}

}  // namespace

SectionTexts::SectionTexts(const data::Cache& cache, const data::Tokenizer& tokenizer,
                           const std::vector<std::int64_t>& groups_of_patients) {
  const std::vector<std::string> reports = cache.read_reports();
  std::vector<data::TextSet> all(data::kNumReportSections);
  for (data::TextSet& set : all) set.tokens.resize(reports.size());
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const auto sections = data::split_sections(reports[i]);
    for (std::size_t s = 0; s < sections.size(); ++s)
      if (!sections[s].empty())
        all[s].tokens[i] = tokenizer.encode(data::prepare_report(sections[s], cache.spec().text_preparation),
                                            cache.spec().max_text_tokens);
  }
  for (data::TextSet& set : all) {
    const auto has_text = [](const std::vector<std::int64_t>& tokens) { return !tokens.empty(); };
    if (std::none_of(set.tokens.begin(), set.tokens.end(), has_text)) continue;
    set.positive_ids = groups_of_patients.empty() ? numbers_of_texts(cache, set.tokens) : groups_of_patients;
    sections_.push_back(std::move(set));
  }
  TRIPHASE_CHECK(DataError, !sections_.empty(),
                 "data.report_sections is 'alternate', and no report has a section with a heading such as 'Liver:'. ",
                 "Use 'full', or reports with the headings of docs/manifests.md.");
}

const data::TextSet* SectionTexts::of_step(std::int64_t step) const {
  if (step % 2 == 0) return nullptr;
  return &sections_[static_cast<std::size_t>(step / 2 % std::ssize(sections_))];
}

}  // namespace triphase::trainer
