// SPDX-License-Identifier: Apache-2.0
// data.report_sections = "alternate".
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "data/cache_index.hpp"
#include "data/report_text.hpp"
#include "data/tokenizer.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/loop/train_data.hpp"

namespace triphase::test {
namespace {

/// The tiny cache with sections: every report has a liver, every third one no spleen.
const TinyCache& sectioned_cache() {
  static const TinyCache made(2, /*has_companions=*/false, /*has_groups=*/false, /*has_sections=*/true);
  return made;
}

std::vector<std::int64_t> row_of(const data::Batch& batch, std::int64_t row) {
  const std::int64_t length = batch.mask[row].sum().item<std::int64_t>();
  const at::Tensor tokens = batch.tokens[row].slice(0, 0, length).contiguous();
  const std::int64_t* first = tokens.const_data_ptr<std::int64_t>();
  return {first, first + length};
}

TEST(SectionTexts, EverySecondStepShowsASectionAndEqualTextsAreOnePair) {
  const trainer::RunConfig config =
      tiny_run("unused", {{"data.report_sections", "\"alternate\""}}, sectioned_cache());
  const trainer::TrainData data = trainer::open_train_data(config, models::model_preset("merlin_tiny"));
  const data::Tokenizer tokenizer(sectioned_cache().tokenizer());
  const std::int64_t steps = trainer::steps_per_epoch(data, config);
  ASSERT_EQ(steps, 3);
  const auto shown = [&](const std::string& text) { return tokenizer.encode(data::sanitize_report(text), 64); };
  std::set<std::string> seen;
  for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
    const auto loader = trainer::open_epoch(data, config, {.epoch = epoch});
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t number = epoch * steps + step;
      SCOPED_TRACE(number);
      const std::optional<data::Batch> batch = loader->next();
      ASSERT_TRUE(batch.has_value());
      const bool is_liver = number % 4 == 1;
      for (std::int64_t row = 0; row < batch->index.size(0); ++row) {
        const std::int64_t sample = batch->index[row].item<std::int64_t>();
        const std::vector<std::int64_t>& whole = data.cache->entries()[static_cast<std::size_t>(sample)].tokens;
        std::vector<std::int64_t> expected = whole;
        if (number % 2 == 1 && is_liver) expected = shown(sample % 2 == 0 ? "Lesion." : "Normal.");
        if (number % 2 == 1 && !is_liver && sample % 3 != 0) expected = shown("Normal.");
        EXPECT_EQ(row_of(*batch, row), expected) << sample;
        seen.insert(number % 2 == 0 ? "whole" : is_liver ? "liver" : expected == whole ? "fallback" : "spleen");
      }
      ASSERT_EQ(batch->positive_ids.defined(), number % 2 == 1);
      for (std::int64_t a = 0; number % 2 == 1 && a < batch->index.size(0); ++a)
        for (std::int64_t b = 0; b < a; ++b)
          EXPECT_EQ(batch->positive_ids[a].item<std::int64_t>() == batch->positive_ids[b].item<std::int64_t>(),
                    row_of(*batch, a) == row_of(*batch, b));
    }
  }
  EXPECT_EQ(seen.size(), 4U);
}

TEST(SectionTexts, AnEpochThatGoesOnShowsWhatItWouldHave) {
  const trainer::RunConfig config =
      tiny_run("unused", {{"data.report_sections", "\"alternate\""}}, sectioned_cache());
  const trainer::TrainData data = trainer::open_train_data(config, models::model_preset("merlin_tiny"));
  const auto whole = trainer::open_epoch(data, config, {.epoch = 1});
  static_cast<void>(whole->next());
  const auto rest = trainer::open_epoch(data, config, {.epoch = 1, .step_in_epoch = 1});
  for (int step = 1; step < 3; ++step) {
    const auto wanted = whole->next();
    const auto found = rest->next();
    EXPECT_TRUE(at::equal(found->tokens, wanted->tokens));
    EXPECT_EQ(found->positive_ids.defined(), wanted->positive_ids.defined());
  }
}

TEST(SectionTexts, ReportsWithoutHeadingsAndRunsWithoutTokenizerAreRefused) {
  const trainer::RunConfig config = tiny_run("unused", {{"data.report_sections", "\"alternate\""}});
  expect_error<DataError>(
      [&] { static_cast<void>(trainer::open_train_data(config, models::model_preset("merlin_tiny"))); },
      ExitCode::kBadData, {"data.report_sections", "'Liver:'"});
  expect_error<ConfigError>(
      [] { static_cast<void>(tiny_run("unused", {{"data.report_sections", "\"alternate\""}, {"model.tokenizer", ""}})); },
      ExitCode::kUsage, {"data.report_sections", "model.tokenizer"});
}

TEST(SectionTexts, ARunWithThemTrainsAndDiffersFromOneWithout) {
  const TemporaryFolder folder;
  const auto losses = [&](const std::string& sections) {
    return run_once(tiny_run(folder / sections, {{"data.report_sections", "\"" + sections + "\""}}, sectioned_cache()),
                    *dist::make_self_group()).losses;
  };
  const std::vector<double> whole = losses("full");
  const std::vector<double> alternating = losses("alternate");
  ASSERT_EQ(alternating.size(), whole.size());
  EXPECT_EQ(alternating[0], whole[0]);
  EXPECT_NE(alternating[1], whole[1]);
}

}  // namespace
}  // namespace triphase::test
