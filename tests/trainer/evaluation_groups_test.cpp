// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/trainer/evaluation_fixture.hpp"
#include "trainer/evaluate_groups.hpp"
#include "trainer/metrics.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

/// A manifest of the tiny cache's samples with a column "sex" by turns, one left empty, and a column of ids.
data::Manifest manifest_of(const data::Cache& cache) {
  data::Manifest manifest;
  manifest.path = "manifest.csv";
  manifest.findings = {"hcc", "cyst"};
  for (const data::CacheEntry& entry : cache.entries()) {
    data::StudyRecord record;
    record.id = entry.id;
    record.site = entry.site;
    record.labels = entry.labels;
    record.metadata["sex"] = manifest.records.size() == 4 ? "" : manifest.records.size() % 2 == 0 ? "f" : "m";
    manifest.records.push_back(std::move(record));
  }
  return manifest;
}

TEST(GroupsByColumn, TakesOwnColumnsSitesAndLabels) {
  const data::Cache cache(tiny_cache().cache());
  const data::Manifest manifest = manifest_of(cache);
  const SampleGroups sex = groups_by_column(manifest, "sex", cache, {4, 5, 6});
  EXPECT_EQ(sex, (SampleGroups{{4, "(none)"}, {5, "m"}, {6, "f"}}));
  EXPECT_EQ(groups_by_column(manifest, "site", cache, {0, 1, 2, 3}), groups_by_site(cache, {0, 1, 2, 3}));
  const SampleGroups cyst = groups_by_column(manifest, "label:cyst", cache, all_samples(cache));
  for (const auto& [index, word] : cyst) {
    const std::int8_t label = cache.entries()[static_cast<std::size_t>(index)].labels[1];
    EXPECT_EQ(word, label < 0 ? "unknown" : std::to_string(label)) << index;
  }
}

TEST(GroupsByColumn, RefusesWhatCannotBeATable) {
  const data::Cache cache(tiny_cache().cache());
  data::Manifest manifest = manifest_of(cache);
  const auto group = [&](const std::string& column) {
    return [&, column] { (void)groups_by_column(manifest, column, cache, all_samples(cache)); };
  };
  expect_error<ConfigError>(group("sexx"), ExitCode::kUsage, {"'sexx'", "'label:hcc'", "'sex'", "manifest.csv"});
  for (data::StudyRecord& record : manifest.records) record.metadata["sex"] = "";
  EXPECT_NO_THROW(group("sex")());
  manifest.records.pop_back();
  expect_error<DataError>(group("sex"), ExitCode::kBadData, {"'s29'", "evaluate.manifest"});
}

TEST(ScoreGroups, EachIsTheAucOfItsOwnRows) {
  ScoredSplit scored{.split = "test",
                     .scores = {0.1, 0.9, 0.8, 0.3, 0.7, 0.2, 0.5},
                     .labels = {0, 1, 0, 1, 1, 0, 1},
                     .patient_ids = {"a", "b", "c", "d", "e", "f", "g"},
                     .indices = {10, 11, 12, 13, 14, 15, 16},
                     .probabilities = {}};
  SampleGroups groups{{10, "x"}, {11, "x"}, {12, "x"}, {13, "x"}, {14, "y"}, {15, "y"}, {16, "z"}, {17, "z"}};
  ScoringOptions options{.scoring = "", .probabilities = "", .threshold_rule = "youden", .bootstrap_samples = 50, .seed = 1};
  const Json table = score_groups("site", groups, {{"hcc", scored}}, options);
  ASSERT_EQ(table.size(), 3u);
  const Json& x = table[0].at("findings").at("hcc");
  EXPECT_EQ(table[0].at("site"), "x");
  EXPECT_EQ(table[0].at("n"), 4);
  EXPECT_EQ(x.at("auc"), roc_auc({0.1, 0.9, 0.8, 0.3}, {0, 1, 0, 1}));
  EXPECT_EQ(x.at("auc_ci95"), Json(bootstrap_by_patient({0.1, 0.9, 0.8, 0.3}, {0, 1, 0, 1}, {"a", "b", "c", "d"}, 0, 50, 1).auc));
  EXPECT_EQ(x.at("n_positive"), 2);
  const Json& z = table[2].at("findings").at("hcc");
  EXPECT_EQ(table[2].at("n"), 2);  // one of them of unknown label
  EXPECT_TRUE(z.at("auc").is_null());
  EXPECT_EQ(z.at("n_positive"), 1);
  EXPECT_NE(z.at("reason").get<std::string>().find("'z'"), std::string::npos);
}

}  // namespace
}  // namespace triphase::trainer
