// SPDX-License-Identifier: Apache-2.0
// model.text_preparation through the program: what a cache holds, and which runs it serves.
#include "data/cache.hpp"
#include "data/tokenizer.hpp"
#include "tests/launch/program_fixture.hpp"

namespace triphase::test {
namespace {

namespace fs = std::filesystem;

CommandResult build_lower_cache(const fs::path& out, const std::string& more) {
  return triphase("cache build --quiet --preset phantom --set 'preprocess.volume_shape=[28,20,16]' --set "
                  "'preprocess.spacing_mm=[11.2,11.2,12.0]' --manifest " + tiny_cohort().manifest().string() +
                  " --out " + out.string() + " " + more);
}

/// The cache's tokens are those of its reports under the preparation.
void expect_tokens(const fs::path& folder, data::TextPreparation preparation) {
  const data::Cache cache(folder);
  const data::Manifest manifest = data::read_manifest(tiny_cohort().manifest());
  const data::Tokenizer tokenizer(tiny_cohort().folder / "cohort" / "tokenizer");
  EXPECT_EQ(cache.spec().text_preparation, preparation);
  ASSERT_EQ(cache.entries().size(), manifest.records.size());
  for (std::size_t i = 0; i < manifest.records.size(); ++i)
    EXPECT_EQ(cache.entries()[i].tokens,
              tokenizer.encode(data::prepare_report(manifest.records[i].report, preparation), 1024));
}

TEST(TextPreparationSetting, ACacheHoldsTheTokensOfItsPreparationAndServesRunsOfItAlone) {
  const TemporaryFolder folder;
  expect_outcome(build_lower_cache(folder / "lower", "--set model.text_preparation=lower"), 0, {});
  expect_tokens(tiny_cohort().cache(), data::TextPreparation::kWordPunct);
  expect_tokens(folder / "lower", data::TextPreparation::kLower);
  expect_outcome(triphase("cache show " + (folder / "lower").string()), 0, {"\"text_preparation\":\"lower\""});

  const std::string lower_cache = "\"" + (folder / "lower").string() + "\"";
  const std::map<std::string, std::string> steps{{"schedule.max_steps", "2"}, {"model.max_text_tokens", "1024"}};
  const auto with = [&](const std::string& name, std::map<std::string, std::string> more) {
    more.insert(steps.begin(), steps.end());
    return write_run_file(folder.path(), name, more);
  };
  const fs::path lower = with("lower_run", {{"data.cache", lower_cache}, {"model.text_preparation", "\"lower\""}});
  expect_outcome(triphase("train --quiet --config " + lower.string()), 0, {});
  expect_outcome(triphase("evaluate --quiet --config " + lower.string() + " --checkpoint " +
                          (folder / "runs/lower_run").string()),
                 0, {"hcc"});
  // Either cache refuses the other run, in every command that reads it.
  const fs::path usual_on_lower = with("a", {{"data.cache", lower_cache}});
  const fs::path lower_on_usual = with("b", {{"model.text_preparation", "\"lower\""}});
  for (const std::string command : {"train --quiet", "train --dry-run", "evaluate --quiet", "embed --quiet --out x.h5"}) {
    expect_outcome(triphase(command + " --config " + usual_on_lower.string()), 65,
                   {"text_preparation", "the cache has \"lower\"", "wants \"wordpunct\""});
    expect_outcome(triphase(command + " --config " + lower_on_usual.string()), 65,
                   {"text_preparation", "the cache has \"wordpunct\"", "wants \"lower\""});
  }
}

TEST(TextPreparationSetting, ARunFileDecidesForTheBuildToo) {
  const TemporaryFolder folder;
  const fs::path run = write_run_file(folder.path(), "run", {{"model.text_preparation", "\"lower\""},
                                                             {"model.max_text_tokens", "1024"}});
  expect_outcome(build_lower_cache(folder / "cache", "--config " + run.string()), 0, {});
  expect_tokens(folder / "cache", data::TextPreparation::kLower);
}

TEST(TextPreparationSetting, ACacheWithoutTheKeyKeepsItsHash) {
  // As caches were written before there was a choice.
  const std::string text = read_text(tiny_cohort().cache() / "cache.json");
  EXPECT_EQ(text.find("text_preparation"), std::string::npos);
}

TEST(TextPreparationSetting, OtherNamesAndSentencesWithoutStopsAreRefused) {
  const TemporaryFolder folder;
  expect_outcome(build_lower_cache(folder / "c", "--set model.text_preparation=upper"), 64,
                 {"model.text_preparation", "wordpunct", "lower"});
  const fs::path run = write_run_file(folder.path(), "run", {{"model.text_preparation", "\"lower\""},
                                                             {"data.augment.text_drop", "0.5"}});
  expect_outcome(triphase("train --dry-run --config " + run.string()), 64, {"text_drop", "model.text_preparation"});
}

}  // namespace
}  // namespace triphase::test
