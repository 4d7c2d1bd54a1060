// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/weights.hpp"
#include "tests/trainer/evaluation_fixture.hpp"
#include "trainer/prompts.hpp"

namespace triphase::trainer {
namespace {

using namespace test;

TEST(Prompts, AreReadWithTheirFindings) {
  const TemporaryFolder folder;
  write_text(folder / "prompts.toml", one_finding("hcc") + one_finding("renal cyst"));
  const std::vector<FindingPrompts> findings = read_prompts((folder / "prompts.toml").string());
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].name, "hcc");
  EXPECT_EQ(findings[1].name, "renal cyst");
  EXPECT_EQ(findings[0].positive.size(), 2u);
  EXPECT_EQ(findings[0].negative, std::vector<std::string>{"no mass"});
}

TEST(Prompts, ErrorsNameFileAndPlace) {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& text) {
    write_text(folder / "prompts.toml", text);
    return [&folder] { (void)read_prompts((folder / "prompts.toml").string()); };
  };
  const auto usage = ExitCode::kUsage;
  expect_error<ConfigError>(read("x = 1\n"), usage, {"prompts.toml", "[[finding]]"});
  expect_error<ConfigError>(read(one_finding("hcc") + one_finding("hcc")), usage,
                            {"prompts.toml:6", "'hcc' stands twice"});
  expect_error<ConfigError>(
      read("[[finding]]\nname = \"hcc\"\npositive = []\nnegative = [\"a\"]\n"), usage,
      {"prompts.toml:3", "positive"});
  expect_error<ConfigError>(read("[[finding]]\nname = \"hcc\"\npositive = [\"a\"]\n"), usage,
                            {"finding[0].negative"});
  expect_error<ConfigError>(read(one_finding("hcc") + "negatives = [\"b\"]\n"), usage,
                            {"prompts.toml:5", "negatives", "negative"});
  expect_error<ConfigError>(
      read("[[finding]]\nname = \"hcc\"\npositive = [\"  \"]\nnegative = [\"a\"]\n"), usage,
      {"empty prompt"});
  expect_error<DataError>([&] { (void)read_prompts((folder / "none.toml").string()); },
                          ExitCode::kMissingInput, {"none.toml"});
}

TEST(Prompts, ArePreparedAsTheRunSays) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const data::Tokenizer tokenizer(subject.config.model.tokenizer);
  const std::string prompt = "No mass. Renal-cyst";
  std::vector<std::vector<std::int64_t>> seen;
  for (const auto preparation :
       {data::TextPreparation::kWordPunct, data::TextPreparation::kLower}) {
    subject.config.model.text_preparation = preparation;
    const at::Tensor found = embed_texts(subject.model, {prompt}, tokenizer, subject.config);
    seen.push_back(tokenizer.encode(data::prepare_report(prompt, preparation), 64));
    const at::Tensor tokens = at::tensor(seen.back(), at::kLong).unsqueeze(0);
    const at::NoGradGuard no_gradients;
    const at::Tensor expected =
        subject.model->encode_text_tokens(tokens, at::ones_like(tokens)).to(at::kFloat);
    EXPECT_TRUE(at::equal(found, expected));
  }
  EXPECT_NE(seen[0], seen[1]);
}

TEST(EmbedSamples, EachSampleOnceInTheAskedOrderAsUnitRows) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const auto self = dist::make_self_group();
  const std::vector<std::int64_t> indices{7, 2, 29, 11, 0};
  const EmbeddingTable table =
      embed_samples(subject.model, *subject.cache, indices, subject.config, *self, false);
  EXPECT_EQ(table.indices, indices);
  EXPECT_EQ(table.image.scalar_type(), at::kFloat);
  for (const at::Tensor& rows : {table.image, table.text})
    EXPECT_TRUE(at::allclose(rows.norm(2, 1), at::ones({5}), 1e-5, 1e-5));
  // Row by row what the towers say of this sample alone; batch 1 may take other kernels than
  // batch 3.
  for (std::int64_t i = 0; i < 5; ++i) {
    const std::int64_t index = indices[static_cast<std::size_t>(i)];
    const data::CacheEntry& entry = subject.cache->entries()[static_cast<std::size_t>(index)];
    at::Tensor volume = at::empty({1, 1, 16, 16, 12});
    subject.cache->read_volume(index, volume.mutable_data_ptr<float>());
    const at::NoGradGuard no_gradients;
    const models::ImageEncoding image = subject.model->encode_image_volumes(volume);
    const at::Tensor tokens = at::tensor(entry.tokens, at::kLong).unsqueeze(0);
    const at::Tensor text = subject.model->encode_text_tokens(tokens, at::ones_like(tokens));
    EXPECT_TRUE(at::allclose(table.image[i], image.embedding[0], 1e-4, 1e-5)) << index;
    EXPECT_TRUE(at::allclose(table.features[i], image.features[0], 1e-4, 1e-5)) << index;
    EXPECT_TRUE(at::allclose(table.text[i], text[0], 1e-4, 1e-5)) << index;
  }
}

TEST(EmbedSamples, LeavesTheTrainingModeAsItWasAndKeepsNoGraph) {
  const TemporaryFolder folder;
  EvaluationSubject subject =
      evaluation_subject(folder.path(), {{"model.batch_norm", "\"local\""}});
  const auto self = dist::make_self_group();
  subject.model->train();
  const auto before = copy_weights(subject.model);
  const EmbeddingTable table =
      embed_samples(subject.model, *subject.cache, {0, 1, 2, 3}, subject.config, *self, false);
  EXPECT_TRUE(subject.model->is_training());
  EXPECT_FALSE(table.image.requires_grad());
  expect_same(copy_weights(subject.model), before);  // running statistics did not move
  subject.model->eval();
  const EmbeddingTable again =
      embed_samples(subject.model, *subject.cache, {0, 1, 2, 3}, subject.config, *self, false);
  EXPECT_TRUE(at::equal(table.image, again.image));
  EXPECT_TRUE(at::equal(table.text, again.text));  // so no dropout either
  EXPECT_FALSE(subject.model->is_training());
}

TEST(EmbedSamples, NamesTheSampleWhoseEmbeddingIsNotFinite) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const auto self = dist::make_self_group();
  {
    const at::NoGradGuard no_gradients;
    for (auto& [name, tensor] : models::base_state(subject.model))
      if (name.ends_with("linear_layer.weight")) tensor.fill_(std::nan(""));
  }
  expect_error<Error>(
      [&] {
        (void)embed_samples(subject.model, *subject.cache, {4}, subject.config, *self, false);
      },
      ExitCode::kDiverged, {"text", "'s4'"});
}

TEST(PromptScores, AreTheDifferenceOfMeanCosines) {
  const TemporaryFolder folder;
  EvaluationSubject subject = evaluation_subject(folder.path());
  const auto self = dist::make_self_group();
  const EmbeddingTable table =
      embed_samples(subject.model, *subject.cache, {0, 5, 9}, subject.config, *self, false);
  const FindingPrompts prompts{
      "hcc", {"Hepatocellular carcinoma.", "A large mass, enhancing"}, {"No mass"}};
  const std::vector<double> scores = prompt_scores(subject.model, table, prompts, subject.config,
                                                   tiny_cache().tokenizer().string());
  ASSERT_EQ(scores.size(), 3u);
  const data::Tokenizer tokenizer(tiny_cache().tokenizer());
  const auto cosine = [&](std::int64_t row,
                          const std::string& text) {  // one prompt at a time, no padding
    const at::Tensor embedded = embed_texts(subject.model, {text}, tokenizer, subject.config);
    return at::dot(table.image[row], embedded[0]).item<double>();
  };
  for (std::int64_t i = 0; i < 3; ++i) {
    const double expected = (cosine(i, prompts.positive[0]) + cosine(i, prompts.positive[1])) / 2 -
                            cosine(i, "No mass");
    EXPECT_NEAR(scores[static_cast<std::size_t>(i)], expected, 1e-5);
  }
  // Prompts are sanitised as reports are: case and spacing do not count.
  const FindingPrompts loud{
      "hcc", {"HEPATOCELLULAR   carcinoma .", "a LARGE mass,enhancing"}, {" no mass "}};
  EXPECT_EQ(
      prompt_scores(subject.model, table, loud, subject.config, tiny_cache().tokenizer().string()),
      scores);
}

}  // namespace
}  // namespace triphase::trainer
