// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/validation.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "base/random.hpp"
#include "tests/trainer/run_fixture.hpp"
#include "trainer/loop/trainable_model.hpp"
#include "trainer/metrics.hpp"

namespace triphase::test {
namespace {

struct ValidationBench {
  explicit ValidationBench(const Settings& changes = {}, const TinyCache& cache = tiny_cache())
      : config(tiny_run("unused", changes, cache)),
        data(trainer::open_train_data(config, models::model_preset("merlin_tiny"))),
        trainable(trainer::build_trainable_model(config)),
        prompts(trainer::validation_prompts(config, *data.cache)) {}
  trainer::ValidationReport run(dist::ProcessGroup& group) {
    return trainer::validate(trainable.model, data, prompts, config, group);
  }
  trainer::EmbeddingTable table() {
    return trainer::embed_samples(trainable.model, *data.cache, data.validation, config, *self,
                                  false);
  }

  std::unique_ptr<dist::ProcessGroup> self = dist::make_self_group();
  trainer::RunConfig config;
  trainer::TrainData data;
  trainer::TrainableModel trainable;
  std::vector<trainer::FindingPrompts> prompts;
};

/// InfoNCE of some rows, both directions, written out.
double info_nce(const at::Tensor& image, const at::Tensor& text, double scale) {
  const at::Tensor logits =
      scale * at::matmul(image.to(at::kDouble), text.to(at::kDouble).transpose(0, 1));
  const auto one_way = [](const at::Tensor& rows) {
    return -at::log_softmax(rows, 1).diagonal().mean().item<double>();
  };
  return (one_way(logits) + one_way(logits.transpose(0, 1))) / 2;
}

TEST(Validate, LossIsTheMeanInfoNceOfFixedBatchesWithoutTheTail) {
  for (const std::int64_t pairs : {2, 3, 5, 8, 18}) {  // 8 samples; more pairs: all of them
    ValidationBench bench({{"batch.global_pairs", str(pairs)}, {"loss.temperature_init", "0.2"}});
    const trainer::EmbeddingTable table = bench.table();
    const std::int64_t rows = std::min<std::int64_t>(pairs, 8);
    const std::vector<std::int64_t> order = keyed_permutation(8, KeyedRandom{7, 0x7a1});
    double sum = 0;
    const std::int64_t num_batches = 8 / rows;
    for (std::int64_t batch = 0; batch < num_batches; ++batch) {
      const std::vector<std::int64_t> members(order.begin() + batch * rows,
                                              order.begin() + (batch + 1) * rows);
      const at::Tensor index = at::tensor(members, at::kLong);
      sum += info_nce(table.image.index_select(0, index), table.text.index_select(0, index), 5);
    }
    // float32 embeddings; the sum of some ten terms
    EXPECT_NEAR(bench.run(*bench.self).loss, sum / static_cast<double>(num_batches), 1e-5) << pairs;
  }
}

// All eight samples in one batch, so that their order does not matter.
TEST(Validate, LossIsOfTheKindThatTheRunHas) {
  ValidationBench bench({{"batch.global_pairs", "8"},
                         {"loss.kind", "\"siglip\""},
                         {"loss.bias_init", "-3"},
                         {"loss.positives", "\"patient\""},
                         {"loss.negatives", "\"site\""}},
                        companions_cache());
  const trainer::EmbeddingTable table = bench.table();
  double sum = 0;
  std::int64_t num_positives = 0;
  for (std::int64_t i = 0; i < 8; ++i)
    for (std::int64_t j = 0; j < 8; ++j) {
      const auto entry = [&](std::int64_t row) {
        return bench.data.cache
            ->entries()[static_cast<std::size_t>(table.indices[static_cast<std::size_t>(row)])];
      };
      if (entry(i).site != entry(j).site) continue;
      const bool is_positive = entry(i).patient_id == entry(j).patient_id;
      if (is_positive) ++num_positives;
      const double logit = 10 * (table.image[i] * table.text[j]).sum().item<double>() - 3;
      sum += std::log1p(std::exp(is_positive ? -logit : logit));
    }
  EXPECT_GT(num_positives, 8);
  EXPECT_LT(num_positives, 16);  // a patient has studies at both sites
  EXPECT_NEAR(bench.run(*bench.self).loss, sum / 8, 1e-5);  // float32 embeddings
}

TEST(Validate, AucIsThatOfThePromptScoresWhereTheLabelIsKnown) {
  ValidationBench bench;
  const trainer::ValidationReport report = bench.run(*bench.self);
  const trainer::EmbeddingTable table = bench.table();
  ASSERT_EQ(report.auc.size(), 2U);
  double sum = 0;
  for (std::size_t finding = 0; finding < 2; ++finding) {
    const std::vector<double> all =
        trainer::prompt_scores(bench.trainable.model, table, bench.prompts[finding], bench.config,
                               bench.config.model.tokenizer);
    std::vector<double> scores;
    std::vector<std::int8_t> labels;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto sample = static_cast<std::size_t>(table.indices[i]);
      const std::int8_t label = bench.data.cache->entries()[sample].labels[finding];
      if (label < 0) continue;
      scores.push_back(all[i]);
      labels.push_back(label);
    }
    EXPECT_EQ(labels.size(), finding == 0 ? 8U : 7U);  // cyst of sample 21 is not known
    EXPECT_EQ(report.auc[finding].second, trainer::roc_auc(scores, labels));
    sum += report.auc[finding].second;
  }
  EXPECT_EQ(report.mean_auc, sum / 2);
  EXPECT_EQ(report.json().at("hcc_auc"), report.auc[0].second);
  EXPECT_EQ(report.json().at("mean_auc"), report.mean_auc);
}

TEST(Validate, AFindingOfOneClassIsNullAndLeftOutOfTheMean) {
  // Two samples of north validate: one with hcc and one without, none with a cyst.
  ValidationBench bench({{"data.sites", "[\"north\"]"}, {"batch.global_pairs", "2"}});
  ASSERT_EQ(bench.data.validation.size(), 2U);
  const trainer::ValidationReport report = bench.run(*bench.self);
  EXPECT_TRUE(std::isnan(report.auc[1].second));
  EXPECT_EQ(report.mean_auc, report.auc[0].second);
  EXPECT_EQ(Json::parse(report.json().dump()).at("cyst_auc"), Json());
}

TEST(Validate, HasTheSameBitsOnAnyNumberOfRanks) {
  ValidationBench alone;
  const trainer::ValidationReport expected = alone.run(*alone.self);
  for (const int num_ranks : {2, 3}) {
    on_thread_ranks(num_ranks, [&](dist::ProcessGroup& group) {
      ValidationBench bench;
      EXPECT_EQ(bench.run(group).json().dump(), expected.json().dump()) << num_ranks;
    });
  }
}

TEST(ValidationPrompts, AreThoseThatHaveALabelColumn) {
  const TemporaryFolder folder;
  const auto finding = [](const std::string& name) {
    return "[[finding]]\nname = \"" + name + "\"\npositive = [\"a\"]\nnegative = [\"b\"]\n";
  };
  write_text(folder / "prompts.toml", finding("fracture") + finding("cyst"));
  const std::string path = "\"" + (folder / "prompts.toml").string() + "\"";
  const auto names = [&](const Settings& changes) {
    const trainer::RunConfig config = tiny_run("unused", changes);
    std::vector<std::string> result;
    for (const trainer::FindingPrompts& each :
         trainer::validation_prompts(config, data::Cache(config.data.cache)))
      result.push_back(each.name);
    return result;
  };
  EXPECT_EQ(names({{"evaluate.prompts", path}}), std::vector<std::string>{"cyst"});
  EXPECT_EQ(names({}), (std::vector<std::string>{"hcc", "cyst"}));
  EXPECT_TRUE(names({{"evaluate.prompts", ""}}).empty());
  EXPECT_TRUE(names({{"model.tokenizer", ""}}).empty());
}

TEST(HasValidation, NeedsASplitAndATime) {
  const auto has = [](const Settings& changes) {
    return trainer::has_validation(tiny_run("unused", changes));
  };
  EXPECT_TRUE(has({}));
  EXPECT_TRUE(has({{"evaluate.every_epochs", "0"}, {"evaluate.every_steps", "2"}}));
  EXPECT_FALSE(has({{"evaluate.every_epochs", "0"}}));
  EXPECT_FALSE(has({{"data.validation_split", "\"\""}}));
}

TEST(KeepBest, TakesAnyNumberOfTheValidation) {
  ValidationBench bench;
  const trainer::ValidationReport report = bench.run(*bench.self);
  const Json json = report.json();
  EXPECT_EQ(trainer::validation_metric(report, "validation_loss"), report.loss);
  EXPECT_EQ(trainer::validation_metric(report, "validation_auc"), report.mean_auc);
  for (const char* field : {"hcc_auc", "cyst_auc", "hcc_average_precision", "recall_at_1", "recall_at_10", "median_rank"}) {
    EXPECT_NO_THROW(trainer::check_keep_best("validation_" + std::string(field), bench.prompts, *bench.data.cache,
                                             bench.data.validation));
    EXPECT_EQ(trainer::validation_metric(report, "validation_" + std::string(field)), json.at(field)) << field;
  }
  for (const char* lower : {"validation_loss", "validation_median_rank"}) EXPECT_TRUE(trainer::is_lower_better(lower));
  for (const char* higher : {"validation_auc", "validation_recall_at_1", "validation_hcc_average_precision"})
    EXPECT_FALSE(trainer::is_lower_better(higher));
}

TEST(KeepBest, RefusesWhatTheValidationWillNotHave) {
  ValidationBench bench({{"data.sites", "[\"north\"]"}, {"batch.global_pairs", "2"}});  // no cyst validates
  const auto check = [&](const std::string& name) {
    return [&, name] {
      trainer::check_keep_best(name, bench.prompts, *bench.data.cache, bench.data.validation);
    };
  };
  EXPECT_NO_THROW(check("validation_auc")());  // of hcc
  expect_error<ConfigError>(check("validation_fracture_auc"), ExitCode::kUsage,
                            {"validation_fracture_auc", "'validation_hcc_auc'", "'validation_recall_at_1'"});
  expect_error<DataError>(check("validation_cyst_auc"), ExitCode::kBadData, {"validation_cyst_auc", "positive"});
  bench.prompts.clear();
  expect_error<ConfigError>(check("validation_auc"), ExitCode::kUsage, {"prompts"});
  EXPECT_NO_THROW(check("validation_recall_at_1")());
}

}  // namespace
}  // namespace triphase::test
